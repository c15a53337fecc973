"""A tier without room: everybody who asks is told the prediction's place in the queue and the reason."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Answer, Service, service
from tests.service.conftest import PAUSED
from tests.waiting import eventually


@pytest.fixture(scope="module")
def paused_service(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = [*PAUSED, "tiers.free.limits.queue=20", "tiers.free.waits.queueSeconds=600"]
    with service(models, tmp_path_factory.mktemp("paused"), settings) as found:
        yield found


MADE: list[str] = []


@pytest.fixture
def paused(paused_service: Service) -> Iterator[Service]:
    yield paused_service
    while MADE:
        paused_service.ask("DELETE", MADE.pop())
    eventually(lambda: queued(paused_service), 20, "nothing waits", operator.not_)  # the figure may be 0.1 s old


def queued(paused: Service) -> int:
    tiers = {tier["name"]: tier["queued"] for tier in paused.get("/v1/tiers").json["tiers"]}
    return int(tiers["free"])


def submit(paused: Service, body: bytes, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = paused.post("free", body, {"Prefer": "respond-async", **named})
    if answer.status == 202:
        MADE.append(answer.headers["Location"])
    return answer


def test_position_and_reason_are_told(paused: Service, tiny: bytes) -> None:
    urls = [submit(paused, tiny).headers["Location"] for _ in range(3)]
    places = [paused.get(url).json["queue"] for url in urls]
    assert [(place["position"], place["ahead"]) for place in places] == [(1, 0), (2, 1), (3, 2)]
    assert "eta_seconds" not in places[0]
    eventually(
        lambda: paused.get(urls[0]).json["queue"]["reason"],  # the leader looks once a second
        20,
        "the reason names the quota",
        lambda reason: "quota pods: 0 of 0 used" in reason,
    )
    paused.ask("DELETE", urls[0])
    assert paused.get(urls[2]).json["queue"]["position"] == 2


def test_cancel_after_ends_what_never_started(paused: Service, tiny: bytes) -> None:
    answer = submit(paused, tiny, Cancel_After="1s", Prefer="wait=20")
    assert (answer.status, answer.json["code"]) == (504, "deadline_passed")
    assert answer.json["prediction"]["status"] == "aborted"


def test_the_tiers_tell_the_same(paused: Service, tiny: bytes) -> None:
    submit(paused, tiny)
    free, premium = eventually(
        lambda: paused.get("/v1/tiers").json["tiers"], 20, "one waits", lambda tiers: tiers[0]["queued"] == 1
    )
    assert (free["name"], free["room"]) == ("free", 0)
    assert free["quota"]["pods"] == {"hard": 0, "used": 0}
    assert (premium["queued"], premium["room"]) == (0, 4)
