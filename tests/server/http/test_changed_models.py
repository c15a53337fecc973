"""A tier that changes its model, as its workers see it over their channels and its clients in their answers."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from server.queue import Served, Serving
from tests.channel import Channel
from tests.running import MODEL, Answer
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, QUIET_SECONDS, Site, completion, waits
from tests.waiting import eventually

NEWER = "flowers@3f9a2c81"
OLD, NEW = (Served(reference, "0" * 64, "onnx", "int8", 0.0) for reference in (MODEL, NEWER))


def result(prediction: dict[str, Any], model: str) -> dict[str, Any]:
    return completion(prediction) | {"model": model}


def is_told_to_retire(channel: Channel) -> None:
    channel.receive_until(lambda: channel.retire)


def test_an_outdated_worker_is_told_hands_in_what_it_has_and_gets_nothing_more(site: Site) -> None:
    site.serve("free", Serving(OLD))
    token = site.job("old", model=OLD.key)
    url = site.submit().headers["Location"]
    (held,) = site.lease(token)
    channel = site.worker(token)
    site.serve("free", Serving(NEW))
    is_told_to_retire(channel)
    later = site.submit().headers["Location"]
    channel.grant(1)
    assert channel.lease(1, QUIET_SECONDS) == []
    assert site.hand_in([result(held, MODEL)], token) == ["accepted"]
    (one,) = site.lease(newer := site.job("new", model=NEW.key))
    assert site.hand_in([result(one, NEWER)], newer) == ["accepted"]
    assert [site.get(one).json["model"] for one in (url, later)] == [MODEL, NEWER]


def test_an_outdated_worker_is_told_on_each_channel(site: Site) -> None:
    site.serve("free", Serving(NEW))
    token = site.job("old", model=OLD.key)
    for _ in range(2):
        channel = site.channel(token)
        channel.hold()
        is_told_to_retire(channel)
        assert not channel.stopping


def test_a_worker_of_a_model_that_this_server_has_not_heard_of_yet_is_not_told_to_go(site: Site) -> None:
    site.serve("free", Serving(OLD))
    site.queue.serve("free", Serving(NEW)).result(ANSWER_SECONDS)
    token = site.job("new", model=NEW.key)
    site.submit()
    (one,) = site.lease(token)
    assert not site.worker(token).retire
    assert site.hand_in([result(one, NEWER)], token) == ["accepted"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_result_that_names_another_model_is_invalid(site: Site, asynchronous: bool) -> None:
    site.serve("free", Serving(OLD))
    token = site.job("old", model=OLD.key)
    channel = site.worker(token)
    answer = None if asynchronous else site.callers.submit(site.post, "free", PICTURE)
    if asynchronous:
        site.submit()
    channel.grant(1)
    (one,) = channel.lease()
    assert site.hand_in([result(one, NEWER)], token) == ["invalid"]
    eventually(lambda: waits(site), ANSWER_SECONDS, "it waits again", lambda many: many == 1)
    channel.grant(1)
    (again,) = channel.lease()
    assert again["id"] == one["id"]
    assert site.hand_in([result(again, MODEL)], token) == ["accepted"]
    if answer is not None:
        assert answer.result(ANSWER_SECONDS).json["model"] == MODEL


def test_the_canarys_part_of_the_predictions_goes_to_its_workers_and_the_rest_to_the_others(site: Site) -> None:
    site.serve("free", Serving(OLD, NEW, percent=50.0))
    workers = {
        model.reference: site.worker(site.job(name, model=model.key)) for name, model in (("old", OLD), ("new", NEW))
    }
    for channel in workers.values():
        channel.grant(64)
    asked: list[Future[Answer]] = [site.callers.submit(site.post, "free", PICTURE) for _ in range(8)]
    stored = [site.submit().json["id"] for _ in range(24)]
    done: dict[str, str] = {}
    for model, channel in workers.items():
        while leased := channel.lease(64, QUIET_SECONDS, QUIET_SECONDS):
            channel.complete([result(one, model) for one in leased])
            done |= {one["id"]: model for one in leased}
    answers = [answer.result(ANSWER_SECONDS).json for answer in asked]
    assert {one["id"]: one["model"] for one in answers} == {one["id"]: done[one["id"]] for one in answers}
    assert done.keys() == {*stored, *(one["id"] for one in answers)}
    expected = {one: NEWER if site.services.serving.is_canary("free", one) else MODEL for one in done}
    assert done == expected
    assert set(done.values()) == {MODEL, NEWER}


def test_without_a_worker_of_its_lane_a_prediction_is_kept_at_once(site: Site) -> None:
    site.serve("free", Serving(OLD, NEW, percent=100.0))
    channel = site.worker(site.job("old", model=OLD.key))
    channel.grant(1)
    answer = site.callers.submit(site.post, "free", PICTURE)
    eventually(lambda: waits(site), ANSWER_SECONDS, "it is in the table", lambda many: many == 1)
    newer = site.job("new", model=NEW.key)
    (one,) = site.lease(newer)
    assert site.hand_in([result(one, NEWER)], newer) == ["accepted"]
    assert answer.result(ANSWER_SECONDS).json["model"] == NEWER
    assert channel.lease(1, QUIET_SECONDS) == []
