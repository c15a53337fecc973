"""What the queue knows of its Jobs, from before their start until a day after their end, on every database."""

from __future__ import annotations

import pytest

from server.queue import Began, JobRecalled, Status, Strikes
from server.queue.operations.jobs import RECALL_CHARACTERS
from tests.server.queue.queue_world import World

WHY = "lent quota went back to premium"


@pytest.fixture
def world(world: World) -> World:
    world.job()
    return world


def test_jobs_are_forgotten_a_day_after_their_end(world: World) -> None:
    world.queue.end_job("job", "crashed").result()
    world.job("live")
    world.clock.advance(90_000)
    assert world.queue.strikes("free").result().count == 1
    world.queue.forget_jobs().result()
    assert world.queue.strikes("free").result() == Strikes(0, "", None)
    assert [row.name for row in world.queue.jobs().result()] == ["live"]


def test_a_job_is_known_from_before_its_start_to_its_end(world: World) -> None:
    opened = world.clock.now
    world.clock.advance(1)
    assert world.queue.open_job("second", "premium", "run-2").result()
    assert not world.queue.open_job("second", "free", "run-3").result()
    world.restart()
    rows = world.queue.jobs().result()
    assert [(row.name, row.tier, row.run, row.opened_at) for row in rows] == [
        ("job", "free", "run-job", opened),
        ("second", "premium", "run-2", opened + 1),
    ]
    world.queue.end_job("job", "over").result()
    assert [row.name for row in world.queue.jobs().result()] == ["second"]


def test_what_a_live_job_holds_is_counted(world: World) -> None:
    world.job("idle")
    world.job("over")
    for _ in range(3):
        world.submit()
    first, _ = world.lease(most=2)
    world.lease("over")
    world.queue.end_job("over", "").result()
    assert [(row.name, many) for row, many in world.queue.loads().result()] == [("job", 2), ("idle", 0)]
    world.complete(first)
    assert [(row, many) for row, many in world.queue.loads().result()] == [
        (row, many) for row, many in zip(world.queue.jobs().result(), (1, 0), strict=True)
    ]


def test_a_job_row_tells_when_its_worker_asked_and_got_work(world: World) -> None:
    start = world.clock.now
    world.clock.advance(1)
    world.queue.take_up("free", "job", [], 30).result()
    world.clock.advance(1)
    world.submit()
    world.lease()
    (row,) = world.queue.jobs().result()
    assert (row.asked_at, row.leased_at) == (start + 1, start + 2)


def test_news_tells_once_how_long_a_job_took_to_ask_for_work(world: World) -> None:
    world.clock.advance(7)
    world.queue.take_up("free", "job", [], 30).result()
    world.clock.advance(1)
    world.queue.take_up("free", "job", [], 30).result()  # its channel was lost
    assert [news for news in world.heard() if isinstance(news, Began)] == [Began("free", 7)]


def test_a_job_is_recalled_once_and_keeps_what_it_holds(world: World) -> None:
    one = world.submit()
    (leased,) = world.lease()
    world.clock.advance(1)
    assert world.queue.recall_job("job", WHY).result()
    assert not world.queue.recall_job("job", "another reason").result()
    assert world.heard()[-1] == JobRecalled("job", "free", WHY)
    world.restart()
    (row,) = world.queue.jobs().result()
    assert (row.recalled_at, row.reason) == (world.clock.now, WHY)
    assert world.queue.recalled().result() == {"job": WHY}
    assert world.get(one).status is Status.LEASED
    assert world.complete(leased) == "accepted"


def test_a_job_that_is_over_or_unknown_is_not_recalled(world: World) -> None:
    world.queue.end_job("job", "crashed").result()
    before = world.heard()
    assert not world.queue.recall_job("job", WHY).result()
    assert not world.queue.recall_job("never", WHY).result()
    assert world.heard() == before
    assert world.queue.recalled().result() == {}
    assert [one.reason for one in world.queue.latest_jobs("free", 9).result()] == ["crashed"]


@pytest.mark.parametrize(("end", "told"), [("", WHY), ("exit code 1", "exit code 1")])
def test_readers_are_told_why_a_job_was_recalled_until_it_ends_for_another_reason(
    world: World, end: str, told: str
) -> None:
    world.job("other")
    world.queue.recall_job("job", WHY).result()
    assert {one.name: one.reason for one in world.queue.latest_jobs("free", 9).result()} == {"job": WHY, "other": ""}
    world.queue.end_job("job", end, blame=bool(end)).result()
    assert {one.name: one.reason for one in world.queue.latest_jobs("free", 9).result()} == {"job": told, "other": ""}
    assert world.queue.recalled().result() == {}


def test_what_a_recalled_worker_held_when_it_ended_costs_no_attempt(world: World) -> None:
    one = world.submit()
    world.lease()
    world.queue.recall_job("job", WHY).result()
    world.queue.end_job("job", "", blame=False).result()
    assert (world.get(one).status, world.get(one).attempts) == (Status.QUEUED, 0)
    assert world.queue.strikes("free").result().count == 0
    world.job("next")
    (again,) = world.lease("next")
    assert (again.attempt, again.solo) == (1, False)


def test_a_reason_is_stored_as_far_as_one_notice_holds_it(world: World) -> None:
    world.queue.recall_job("job", "\0" + "\N{SPARKLES}" * 2000).result()
    (row,) = world.queue.jobs().result()
    assert row.reason == "\N{REPLACEMENT CHARACTER}" + "\N{SPARKLES}" * (RECALL_CHARACTERS - 1)
