"""What is told of a capacity, and of how the tiers stand to it, and what is measured of both.

It could be told where there is no capacity; miss a tier or a resource; add up to 2.7000000000000002; count a tier that
is gone; say nothing, or fail, before the leader has looked; or say to those who follow what it does not say to those
who ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.queue import ConnectionLost, Lending, TierView
from server.settings import apart
from server.settings.blueprints import InForce
from server.settings.live import Live
from server.settings.quantity import Usage
from server.settings.sources import Files, Sources
from tests.events import opened
from tests.openapi import described
from tests.server.http.http_site import ANSWER_SECONDS, Site, running
from tests.service.test_metrics import Series
from tests.waiting import eventually

CAPACITY = {"cpu": "4", "memory": "8Gi", "gpus": "0"}
BORROWS = Lending(share=0.5, used=0.675, borrowed=0.175, lent=0.0, recalled=1)
LENDS = Lending(share=0.5, used=0.225, borrowed=0.0, lent=0.175, recalled=0)
FREE = TierView(quota={"cpu": Usage(4, 2.7), "memory": Usage(2**33, 2**30)}, lending=BORROWS)
PREMIUM = TierView(quota={"cpu": Usage(2, 0.9)}, lending=LENDS)


def judged(sources: Sources) -> InForce:
    found = apart.judge(sources)
    return replace(found, settings=replace(found.settings, capacity=CAPACITY))


@pytest.fixture
def lending(tmp_path: Path) -> Iterator[Site]:
    """A site with a capacity."""
    with running(tmp_path, Live(Files(), judge=judged)) as found:
        yield found


def report(site: Site, **views: TierView) -> None:
    for tier, view in views.items():
        site.queue.report(tier, view).result(ANSWER_SECONDS)


def told(site: Site) -> dict[str, Any]:
    return dict(site.get("/v1/tiers").json)


def test_the_tiers_tell_the_capacity_and_how_they_stand_to_it(lending: Site) -> None:
    unseen = told(lending)
    assert unseen["capacity"] == {
        "cpu": {"hard": 4, "used": 0},
        "memory": {"hard": 2**33, "used": 0},
        "gpus": {"hard": 0, "used": 0},
    }
    assert [tier["lending"] for tier in unseen["tiers"]] == [None, None]
    report(lending, free=FREE, premium=PREMIUM)
    seen = told(lending)
    assert seen["capacity"]["cpu"] == {"hard": 4, "used": 3.6}
    assert [tier["lending"] for tier in seen["tiers"]] == [
        {"share": 0.5, "used": 0.675, "borrowed": 0.175, "lent": 0, "recalled": 1},
        {"share": 0.5, "used": 0.225, "borrowed": 0, "lent": 0.175, "recalled": 0},
    ]
    assert lending.get("/v1/tiers/free").json["lending"] == seen["tiers"][0]["lending"]
    config = lending.get("/config").json
    assert {name: config[name] for name in seen} == seen
    described().check(lending.get("/config"), "GET", "/config")


def test_what_is_used_of_the_capacity_is_the_sum_of_what_was_seen(lending: Site) -> None:
    gone = TierView(quota={"cpu": Usage(8, 8)})
    report(
        lending, free=TierView(quota={"cpu": Usage(4, 0.1)}), premium=TierView(quota={"cpu": Usage(4, 0.2)}), gone=gone
    )
    assert told(lending)["capacity"]["cpu"] == {"hard": 4, "used": 0.3}
    report(lending, premium=TierView())
    assert told(lending)["capacity"]["cpu"] == {"hard": 4, "used": 0.1}


def test_those_who_follow_the_tiers_are_told_it_too(lending: Site) -> None:
    with opened(lending.port, "/v1/tiers/events") as stream:
        first = stream.next()
        assert first is not None
        assert [tier["lending"] for tier in first.data["tiers"]] == [None, None]
        report(lending, free=FREE, premium=PREMIUM)
        event = next(one for one in stream.rest() if all(tier["lending"] for tier in one.data["tiers"]))
    described().check_event(event.name, event.data, "/v1/tiers/events")
    now = told(lending)
    assert event.data["capacity"] == now["capacity"]
    assert [tier["lending"] for tier in event.data["tiers"]] == [tier["lending"] for tier in now["tiers"]]


def test_without_a_capacity_nothing_is_told_of_it(site: Site) -> None:
    report(site, free=TierView(quota={"cpu": Usage(4, 2.7)}), premium=TierView(quota={"cpu": Usage(2, 0.9)}))
    found = told(site)
    assert (found["capacity"], [tier["lending"] for tier in found["tiers"]]) == (None, [None, None])


def series(site: Site) -> Series:
    return Series(site.internal.get("/metrics").body)


def test_the_metrics_show_the_capacity_and_the_shares(lending: Site) -> None:
    unseen = series(lending)
    assert (unseen.of("capacity_hard", resource="cpu"), unseen.of("capacity_used", resource="cpu")) == (4, 0)
    assert unseen.of("share", tier="free") is None
    report(lending, free=FREE, premium=PREMIUM)
    found = series(lending)
    names = ("share", "share_used", "share_borrowed", "share_lent")
    assert [found.of(name, tier="free") for name in names] == [0.5, 0.675, 0.175, 0]
    assert [found.of(name, tier="premium") for name in names] == [0.5, 0.225, 0, 0.175]
    assert found.of("capacity_used", resource="cpu") == 3.6
    assert found.of("capacity_hard", resource="memory") == 2**33
    lending.database.failure = ConnectionLost("the connection broke")
    assert series(lending).of("capacity_hard", resource="cpu") is None
    lending.database.failure = None


def test_a_worker_that_is_recalled_is_counted_once(lending: Site) -> None:
    report(lending, free=FREE, premium=PREMIUM)
    lending.job("last")
    assert series(lending).of("workers_recalled_total", tier="free") == 0
    for _ in range(2):
        lending.queue.recall_job("last", "lent quota went back to premium").result(ANSWER_SECONDS)
    eventually(lambda: series(lending).of("workers_recalled_total", tier="free") == 1, ANSWER_SECONDS, "it is counted")
    assert series(lending).of("workers_recalled_total", tier="premium") == 0


def test_without_a_capacity_nothing_is_measured_of_it(site: Site) -> None:
    report(site, free=TierView(quota={"cpu": Usage(4, 2.7)}))
    found = series(site)
    assert found.of("quota_used", tier="free", resource="cpu") == 2.7
    assert [name for name, _ in found if "share" in name or "capacity" in name or "recalled" in name] == []
