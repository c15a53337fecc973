"""A prediction that was lost once is leased alone, so that a picture which kills workers harms no other prediction."""

from __future__ import annotations

import pytest

from server.queue import Available, Ended, Moved, Status
from tests.server.queue.queue_world import World

TIERS = {"free": 3, "premium": 3}


@pytest.fixture
def world(world: World) -> World:
    world.job()
    world.job("other")
    return world


def test_what_was_lost_is_leased_alone(world: World) -> None:
    ids = [world.submit() for _ in range(3)]
    world.lease(most=2)
    world.clock.advance(31)
    world.queue.reclaim(TIERS).result()
    (first,) = world.lease()
    assert (first.id, first.solo, first.attempt) == (ids[0], True, 2)
    assert world.lease() == []  # a worker with a solo prediction gets no other one
    (second,) = world.lease("other")
    assert (second.id, second.solo) == (ids[1], True)
    world.complete(first)
    assert [one.id for one in world.lease()] == [ids[2]]


def test_a_job_that_holds_others_waits_for_what_is_to_be_alone(world: World) -> None:
    lost = world.submit()
    world.lease()
    held = world.submit(priority=-1)
    (mine,) = world.lease("other")
    world.clock.advance(1)
    world.queue.end_job("job", "it crashed").result()
    waiting = world.submit()
    assert mine.id == held
    assert world.lease("other") == []  # a later prediction does not overtake a solo one
    world.complete(mine, "other")
    assert [one.id for one in world.lease("other")] == [lost]
    assert world.status(waiting) is Status.QUEUED


def test_one_that_is_to_be_alone_ends_the_batch_before_it(world: World) -> None:
    world.submit(priority=1)
    world.lease()
    world.clock.advance(31)
    world.queue.reclaim(TIERS).result()
    ids = [world.submit() for _ in range(2)]
    assert [one.id for one in world.lease("other")] == ids


def test_a_job_freed_of_its_lone_lease_wakes_its_tier(world: World) -> None:
    world.submit()
    world.lease()
    world.clock.advance(31)
    world.queue.reclaim(TIERS).result()
    (alone,) = world.lease()
    world.submit()
    assert world.lease() == []
    world.heard()
    world.complete(alone)
    ended = Ended(world.get(alone.id))
    assert world.heard() == [Moved(alone.id, "free", Status.SUCCEEDED), ended, Available("free")]


@pytest.mark.parametrize("freed", ["complete", "cancel", "reclaim"])
def test_a_job_freed_for_what_is_to_be_alone_wakes_its_tier(world: World, freed: str) -> None:
    world.submit()
    world.lease()
    held = world.submit(priority=-1, deadline=60)
    (mine,) = world.lease("other", seconds=100)
    world.queue.end_job("job", "it crashed").result()
    assert world.lease("other") == []
    world.heard()
    world.clock.advance(60)
    if freed == "complete":
        world.complete(mine, "other")
    elif freed == "cancel":
        world.queue.cancel(held).result()
    else:
        world.queue.reclaim(TIERS).result()
    heard = world.heard()
    assert Moved(held, "free", world.status(held)) in heard
    assert Available("free") in heard


def test_an_ordinary_completion_wakes_no_worker(world: World) -> None:
    one = world.submit()
    world.submit()
    (leased,) = world.lease(most=1)
    world.heard()
    world.complete(leased)
    assert world.heard() == [Moved(one, "free", Status.SUCCEEDED), Ended(world.get(one))]
