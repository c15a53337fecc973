"""The counts that the triggers keep: of positions, which are exact, and of what a sweep may forget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from server.queue.facts.records import Arrival, Hold
from server.queue.operations.upkeep import COUNTS_KEPT, PAGE
from server.queue.store.tables import waiting
from tests.server.queue.queue_world import WORLDS, PostgresWorld, TwoServersWorld, World, completion, pairs

COUNTED = sa.select(waiting.c.second, sa.func.sum(waiting.c.queued).label("queued")).group_by(waiting.c.second)
ROWS = sa.select(waiting.c.second)


@pytest.fixture(params=[*WORLDS, TwoServersWorld])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with request.param(tmp_path) as world:
        world.job()
        yield world


def counted(world: World) -> dict[int, int]:
    """How many wait of each second that has a count."""
    return {row.second: int(row.queued) for row in world.database.read(lambda tx: tx.rows(COUNTED)).result()}


def positions(world: World, ids: list[str]) -> list[int | None]:
    found = [world.queue.position(one).result() for one in ids]
    return [None if one is None else one.position for one in found]


def test_positions_are_exact_within_a_second_and_across_seconds(world: World) -> None:
    ids = []
    for step in (0.0, 0.25, 0.5, 0.25, 3.0, 0.999, 0.001, 60.0):
        world.clock.advance(step)
        ids += [world.submit(), world.submit(priority=1), world.submit(tier="premium")]
    front, behind = ids[::3], ids[1::3]
    assert positions(world, front) == list(range(1, 9))
    assert positions(world, behind) == list(range(9, 17))
    taken = world.lease(most=3)
    world.queue.cancel(front[5]).result()
    left = [*front[3:5], *front[6:], *behind]
    assert positions(world, left) == list(range(1, 13))
    world.queue.release("job", pairs(taken[1:])).result()
    assert positions(world, [*front[1:3], *left]) == list(range(1, 15))


def test_the_counts_of_seconds_that_are_over_are_forgotten_and_no_others(world: World) -> None:
    start = int(world.clock())
    ids = []
    for _ in range(4):
        ids += [world.submit(), world.submit()]
        world.clock.advance(1)
    for leased in world.lease(most=5):
        world.complete(leased)
    assert counted(world) == {start: 0, start + 1: 0, start + 2: 1, start + 3: 2}
    assert world.queue.forget_counts().result() is False
    assert len(counted(world)) == 4, "they are too young"
    world.clock.advance(COUNTS_KEPT)
    world.queue.forget_counts().result()
    assert counted(world) == {start + 2: 1, start + 3: 2}
    assert positions(world, ids[5:]) == [1, 2, 3]
    assert world.queue.forget_counts().result() is False


def test_a_second_that_was_forgotten_counts_again(world: World) -> None:
    first, second = world.submit(), world.submit()
    leased = world.lease()
    world.clock.advance(2 * COUNTS_KEPT)
    world.queue.forget_counts().result()
    assert counted(world) == {}
    world.queue.release("job", pairs(leased)).result()
    assert positions(world, [first, second, world.submit()]) == [1, 2, 3]


def test_one_call_forgets_one_page(world: World) -> None:
    for _ in range(PAGE + 1):
        world.queue.cancel(world.submit()).result()
        world.clock.advance(1)
    world.clock.advance(COUNTS_KEPT)
    assert [world.queue.forget_counts().result() for _ in range(2)] == [True, False]
    assert not world.database.read(lambda tx: tx.rows(ROWS)).result()


def test_what_has_ended_when_it_comes_is_not_counted(world: World) -> None:
    given = world.submission()
    arrival = Arrival(given, world.clock(), Hold("job", "t" * 32, world.clock()))
    world.queue.settle([(arrival, completion(given.id, "t" * 32))]).result()
    assert counted(world) == {}
    assert world.queue.depths().result() == {}


def test_what_another_server_counts_meanwhile_is_kept(tmp_path: Path) -> None:
    with PostgresWorld(tmp_path) as world:
        world.queue.cancel(world.submit()).result()
        (second,) = counted(world)
        world.clock.advance(2 * COUNTS_KEPT)
        with psycopg.connect(world.url) as other:
            other.execute("UPDATE waiting SET queued = queued + 1")
            forgetting = world.queue.forget_counts()
            with pytest.raises(TimeoutError):
                forgetting.result(0.5)
        forgetting.result()
        assert counted(world) == {second: 1}
