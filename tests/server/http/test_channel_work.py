"""Predictions over a channel: how they come, end, go back and are lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.blobs import BlobError, pack_header
from server.http.internal import delivery, wire
from server.queue import ConnectionLost, Served
from tests.running import MODEL
from tests.server.http.http_site import (
    ANSWER_SECONDS,
    ASYNC,
    LABELS,
    PICTURE,
    QUIET_SECONDS,
    Site,
    assert_problem,
    completion,
    running,
    waits,
)
from tests.waiting import eventually

BLOB = pack_header([len(PICTURE)]) + PICTURE
NOBODYS = {"id": "p", "token": "t", "model": MODEL, "predict_ms": 1, "results": LABELS}


def test_a_frame_brings_pictures_and_their_labels_end_it(site: Site) -> None:
    token = site.job()
    urls = [site.submit().headers["Location"] for _ in range(2)]
    first, second = site.lease(token, most=2)
    for one, url in zip((first, second), urls, strict=True):
        assert url.endswith(one["id"])
        assert (one["blob"], one["top_k"]) == (BLOB, 5)
    assert site.worker(token).renew == 10
    assert site.complete(first, token) == ["accepted"]
    assert site.complete(first, token) == ["duplicate"]
    kept = [found.json["status"] for found in map(site.get, urls)]
    assert kept == ["succeeded", "leased"]
    eventually(
        lambda: list(site.blobs.older_than(-3600)),
        ANSWER_SECONDS,
        "the picture that has its labels is deleted",
        lambda keys: keys == [second["id"]],
    )


@pytest.mark.parametrize("headers", [ASYNC, {}])
def test_a_frame_names_the_function_and_the_result_must_be_its(site: Site, headers: dict[str, str]) -> None:
    token = site.job()
    site.worker(token)
    answer = site.callers.submit(site.post, "free", PICTURE, headers, "?function_to_apply=none")
    (one,) = site.lease(token)
    assert one["function"] == "none"
    assert site.complete(one, token) == ["invalid"]
    (again,) = site.lease(token)
    logits = [{"labels": [{"label": "tabby", "score": -3.5}]}]
    assert site.hand_in([completion(again, logits) | {"function": "none"}], token) == ["accepted"]
    kept = site.get(answer.result(ANSWER_SECONDS).headers["Location"]).json
    assert kept["results"][0]["labels"] == logits[0]["labels"]


def test_outcomes_ride_on_the_next_frame(site: Site) -> None:
    channel = site.worker(site.job())
    site.submit()
    channel.grant(1)
    (one,) = channel.lease()
    channel.say({"completions": [completion(one)]})
    eventually(lambda: waits(site, leased=True), ANSWER_SECONDS, "the result is stored", lambda many: many == 0)
    assert channel.outcomes == {}
    site.submit()
    channel.grant(1)
    channel.lease()
    assert channel.outcomes == {one["id"]: ["accepted"]}


def test_outcomes_that_ride_on_nothing_are_sent_before_they_are_many(site: Site) -> None:
    channel = site.worker(site.job())
    for number in range(3):
        channel.say({"completions": [{**NOBODYS, "id": f"p{number}x{other}"} for other in range(32)]})
    channel.receive()
    assert len(channel.outcomes) > 64


def test_pictures_are_read_from_disk_when_they_are_not_in_memory(site: Site) -> None:
    key, token = site.keep(), site.job()
    (one,) = site.lease(token)
    assert (one["id"], one["blob"]) == (key, BLOB)


def test_a_prediction_whose_picture_is_gone_fails_and_takes_no_credit(site: Site) -> None:
    gone, there = site.keep(), site.keep()
    site.blobs.delete([gone])
    channel = site.worker(site.job())
    channel.grant(1)
    assert [one["id"] for one in channel.lease()] == [there]
    assert site.get(f"/v1/predictions/{gone}").json["error"]["code"] == "blob_missing"


def test_workers_share_what_waits(site: Site) -> None:
    first, second = (site.worker(site.job(name)) for name in ("first", "second"))
    for _ in range(4):
        site.submit()
    first.grant(64)
    assert len(first.lease(4, quiet=QUIET_SECONDS)) >= 2
    second.grant(1)
    assert len(second.lease(1, QUIET_SECONDS)) <= 1


def test_leases_are_renewed_and_released(site: Site) -> None:
    token = site.job()
    url = site.submit().headers["Location"]
    (one,) = site.lease(token)
    channel, nobodys = site.worker(token), {"id": "p" * 35, "token": "guess"}
    assert channel.hold([one, nobodys]) == ["p" * 35]
    site.clock.advance(20)
    assert channel.hold([one]) == []
    site.clock.advance(20)
    site.queue.reclaim({"free": 3}).result(ANSWER_SECONDS)
    assert site.get(url).json["status"] == "leased", "the renewal has prolonged it"
    channel.release([one, nobodys])
    answer = site.get(url).json
    assert (answer["status"], answer["attempts"]) == ("queued", 0)
    assert channel.hold([one]) == [one["id"]]


def test_what_was_lost_on_its_way_waits_again_at_no_cost(site: Site) -> None:
    token = site.job()
    urls = [site.submit().headers["Location"] for _ in range(2)]
    held, lost = site.lease(token, most=2)
    site.worker(token).break_off()
    channel = site.channel(token)
    assert channel.hold([held]) == []
    answers = [site.get(url).json for url in urls]
    assert [(answer["status"], answer["attempts"]) for answer in answers] == [("leased", 1), ("queued", 0)]
    assert channel.complete([completion(held)]) == ["accepted"]
    channel.grant(1)
    assert [one["id"] for one in channel.lease()] == [lost["id"]]


def test_a_result_whose_outcome_was_lost_is_sent_again(site: Site) -> None:
    token = site.job()
    site.submit()
    (one,) = site.lease(token)
    site.worker(token).say({"completions": [completion(one)]})
    site.worker(token).break_off()
    channel = site.channel(token)
    channel.say({"completions": [completion(one)], "renew": [], "token": token})
    channel.receive_until(lambda: channel.outcomes)
    assert channel.outcomes[one["id"]] in (["accepted"], ["duplicate"])


def test_a_prediction_of_a_hundred_pictures_is_completed(site: Site) -> None:
    key, token = site.keep(images=100), site.job()
    (one,) = site.lease(token)
    assert site.hand_in([completion(one, 100 * LABELS)], token) == ["accepted"]
    assert [result["index"] for result in site.get(f"/v1/predictions/{key}").json["results"]] == list(range(100))


def test_somebody_elses_prediction_is_not_completed(site: Site) -> None:
    url = site.submit().headers["Location"]
    (one,) = site.lease(site.job("its"))
    for found in ({**one, "token": "guess"}, {**one, "id": "p" * 35}, one):
        assert site.complete(found, site.job("another")) == ["unknown"]
    assert site.get(url).json["status"] == "leased"


def test_a_job_that_ended_is_dismissed(site: Site) -> None:
    token = site.job()
    channel, late = site.worker(token), site.channel(site.job("late"))
    for name in ("job", "late"):
        site.queue.end_job(name, "killed").result(ANSWER_SECONDS)
    assert_problem(site.refusal(token), 410, "unknown_job")
    late.say({"renew": [], "token": late.token})
    assert late.ended().code == wire.UNKNOWN_JOB
    channel.grant(1)
    assert channel.ended().code == wire.UNKNOWN_JOB


def test_a_second_channel_of_a_job_ends_the_first(site: Site) -> None:
    token = site.job()
    first = site.worker(token)
    first.grant(1)
    second = site.channel(token)
    assert first.ended().code == wire.ANOTHER
    second.hold()
    site.submit()
    second.grant(1)
    assert len(second.lease()) == 1


def test_each_of_several_that_wait_gets_one(site: Site) -> None:
    channels = [site.worker(site.job(f"job{number}")) for number in range(3)]
    for channel in channels:
        channel.grant(1)
    urls = {site.submit().headers["Location"] for _ in range(3)}
    got = [one["id"] for channel in channels for one in channel.lease()]
    assert {f"/v1/predictions/{key}" for key in got} == urls


def test_a_worker_that_hung_up_while_it_waited_gets_nothing(site: Site) -> None:
    channel = site.worker(site.job())
    channel.grant(1)
    channel.break_off()
    no_channel_is_left(site)
    url = site.submit().headers["Location"]
    eventually(site.tasks, ANSWER_SECONDS, "nothing is done any more", lambda tasks: tasks == [])
    answer = site.get(url).json
    assert (answer["status"], answer["attempts"]) == ("queued", 0)


def no_channel_is_left(site: Site) -> None:
    def seats() -> list[object]:
        return site.call(lambda: list(site.services.handout._seats))

    eventually(seats, ANSWER_SECONDS, "no worker is connected", lambda found: not found)


def test_what_was_leased_to_a_worker_that_hung_up_waits_again_at_no_cost(site: Site) -> None:
    key = site.keep()
    site.blobs.released.clear()
    channel = site.worker(site.job())
    channel.grant(1)
    assert site.blobs.asked.wait(ANSWER_SECONDS)
    assert site.get(f"/v1/predictions/{key}").json["status"] == "leased"
    channel.break_off()
    no_channel_is_left(site)
    site.blobs.released.set()
    answer = eventually(
        lambda: site.get(f"/v1/predictions/{key}").json,
        ANSWER_SECONDS,
        "it waits again",
        lambda found: found["status"] == "queued",
    )
    assert answer["attempts"] == 0


def test_a_lease_whose_pictures_cannot_be_read_is_handed_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FAILED_SECONDS", 1.0)
    key = site.keep()
    channel = site.worker(site.job())
    site.blobs.failure = BlobError("the disk is sick")
    channel.grant(1)
    assert site.blobs.asked.wait(ANSWER_SECONDS)
    answer = eventually(
        lambda: site.get(f"/v1/predictions/{key}").json,
        ANSWER_SECONDS,
        "it waits again",
        lambda found: found["status"] == "queued",
    )
    assert answer["attempts"] == 0
    site.blobs.failure = None
    assert [one["id"] for one in channel.lease()] == [key], "the worker is given it when the disk is well"


def test_results_that_cannot_be_stored_are_asked_for_again(site: Site) -> None:
    token = site.job()
    url = site.submit().headers["Location"]
    (one,) = site.lease(token)
    site.database.failure = ConnectionLost("the connection broke")
    channel = site.worker(token)
    channel.say({"completions": [completion(one)], "renew": [], "token": token})
    channel.receive_until(lambda: channel.outcomes)
    assert channel.outcomes == {one["id"]: ["again"]}
    site.database.failure = None
    assert site.complete(one, token) == ["accepted"]
    assert site.get(url).json["status"] == "succeeded"


def test_a_worker_comes_again_when_the_queue_cannot_say_what_it_held(site: Site) -> None:
    channel = site.channel(site.job())
    site.database.write_failure = ConnectionLost("the connection broke")
    channel.say({"renew": [], "token": channel.token})
    assert channel.ended().code == wire.BUSY


def test_a_server_that_stops_says_so_and_takes_results(site: Site) -> None:
    token = site.job("busy")
    site.submit()
    (one,) = site.lease(token)
    channel = site.worker(token)
    site.call(site.services.wakeups.drain)
    site.call(site.services.handout.stop)
    channel.receive_until(lambda: channel.stopping)
    assert_problem(refused := site.refusal(site.job("another")), 503, "stopping")
    assert (refused.headers["Connection"], refused.headers["Retry-After"]) == ("close", "1")
    site.submit()
    channel.grant(1)
    assert channel.lease(1, QUIET_SECONDS) == []
    assert channel.complete([completion(one)]) == ["accepted"]
    assert LABELS[0]["labels"] == site.get(f"/v1/predictions/{one['id']}").json["results"][0]["labels"]


def test_a_server_that_ends_closes_its_channels_in_words(tmp_path: Path) -> None:
    with running(tmp_path) as site:
        channel = site.worker(site.job())
        site.end_connections()
        closed = channel.ended()
        assert (closed.code, closed.reason) == (wire.STOPS, "this server stops")


def test_what_a_worker_has_done_counts_for_its_model(site: Site) -> None:
    served = Served(MODEL, "0" * 64, "onnx", "int8", 0.0)
    token = site.job(model=served.key)
    site.submit()
    (one,) = site.lease(token)
    assert site.complete(one, token) == ["accepted"]
    assert site.complete(one, token) == ["duplicate"]
    (counted,) = site.services.measures.counts().items()
    assert (counted[0], counted[1].predictions, counted[1].pictures) == (("free", served.key), 1, 1)
