"""The counts that the triggers keep: of positions, which are exact, and of what a sweep may forget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from server.queue.facts.records import Arrival, Hold
from server.queue.operations import sweeps
from server.queue.store.tables import waiting
from tests.server.queue.queue_world import WORLDS, PostgresWorld, TwoServersWorld, World, completion, pairs

COUNTED = (
    sa.select(waiting.c.turn, sa.func.sum(waiting.c.queued).label("queued"))
    .where(waiting.c.level == 1)
    .group_by(waiting.c.turn)
)
ROWS = sa.select(waiting.c.turn, waiting.c.level).distinct()


@pytest.fixture(params=[*WORLDS, TwoServersWorld])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with request.param(tmp_path) as world:
        world.job()
        yield world


def counted(world: World) -> dict[int, int]:
    """How many wait of each turn that has a count."""
    return {row.turn: int(row.queued) for row in world.database.read(lambda tx: tx.rows(COUNTED)).result()}


def positions(world: World, ids: list[str]) -> list[int | None]:
    found = [world.queue.position(one).result() for one in ids]
    return [None if one is None else one.position for one in found]


def test_positions_are_exact_within_a_moment_and_across_moments_of_a_turn(world: World) -> None:
    ids = []
    for number, step in enumerate((0.0, 0.02, 0.5, 0.0, 3.0, 0.9999, 0.0001, 60.0)):
        world.clock.advance(step)
        by = f"owner:{number}"
        ids += [world.submit(caller=by), world.submit(caller=f"{by}b", priority=1), world.submit(tier="premium")]
    assert {world.get(one).turn for one in (*ids[::3], *ids[1::3])} == {1}
    front, behind = ids[::3], ids[1::3]
    assert positions(world, front) == list(range(1, 9))
    assert positions(world, behind) == list(range(9, 17))
    taken = world.lease(most=3)
    world.queue.cancel(front[5]).result()
    left = [*front[3:5], *front[6:], *behind]
    assert positions(world, left) == list(range(1, 13))
    world.queue.release("job", pairs(taken[1:])).result()
    assert positions(world, [*front[1:3], *left]) == list(range(1, 15))


def test_positions_are_exact_across_turns_and_blocks_of_turns(world: World) -> None:
    ids: dict[tuple[int, int], str] = {}
    for turn in (5, 1023, 1024, 1025, 2047, 2048, 9000, 9000, 5, 1024):
        arrival = Arrival(world.submission(), world.clock(), turn + 0.5)
        ids[turn, len(ids)] = world.queue.keep(arrival, 3, 30.0).result().prediction.id
        world.clock.advance(1)
    in_order = [ids[place] for place in sorted(ids)]
    assert positions(world, in_order) == list(range(1, 11))
    taken = world.lease(most=4)
    assert [one.id for one in taken] == in_order[:4]
    assert positions(world, in_order[4:]) == list(range(1, 7))
    world.queue.release("job", pairs(taken[1:2])).result()
    assert positions(world, [in_order[1], *in_order[4:]]) == list(range(1, 8))


def test_the_counts_of_what_is_over_are_forgotten_and_no_others(world: World) -> None:
    ids = [world.submit() for _ in range(8)]
    for leased in world.lease(most=5):
        world.complete(leased)
    world.queue.cancel(ids[6]).result()  # of a turn that the tier has not reached
    assert counted(world) == dict.fromkeys(range(1, 9), 0) | {6: 1, 8: 1}
    assert world.queue.forget_counts().result() is None
    assert counted(world) == {6: 1, 8: 1}
    assert len(world.database.read(lambda tx: tx.rows(ROWS)).result()) == 5
    assert positions(world, [ids[5], ids[7]]) == [1, 2]
    assert world.queue.forget_counts().result() is None
    assert counted(world) == {6: 1, 8: 1}


def test_a_turn_that_was_forgotten_counts_again(world: World) -> None:
    first, second = world.submit(), world.submit()
    leased = world.lease()
    world.queue.forget_counts().result()
    assert counted(world) == {}
    world.queue.release("job", pairs(leased)).result()
    assert positions(world, [first, second, world.submit()]) == [1, 2, 3]


def test_a_walk_forgets_page_by_page_behind_counts_that_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "PAGE", 3)
    monkeypatch.setattr(sweeps, "_COUNTS", sweeps._COUNTS.limit(3))
    ids = [world.submit() for _ in range(6)]
    for one in ids[3:]:
        world.queue.cancel(one).result()
    after, pages = world.queue.forget_counts().result(), 1
    while after is not None:
        after, pages = world.queue.forget_counts(after).result(), pages + 1
    assert pages >= 5
    assert counted(world) == dict.fromkeys(range(1, 4), 1)
    assert positions(world, ids[:3]) == [1, 2, 3]


def test_what_has_ended_when_it_comes_is_not_counted(world: World) -> None:
    given = world.submission()
    arrival = Arrival(given, world.clock(), 0.0, Hold("job", "t" * 32, world.clock()))
    world.queue.settle([(arrival, completion(given.id, "t" * 32))]).result()
    assert counted(world) == {}
    assert world.queue.depths().result() == {}


def test_what_another_server_counts_meanwhile_is_kept(tmp_path: Path) -> None:
    with PostgresWorld(tmp_path) as world:
        world.queue.cancel(world.submit()).result()
        with psycopg.connect(world.url) as other:
            other.execute("UPDATE waiting SET queued = queued + 1")
            forgetting = world.queue.forget_counts()
            with pytest.raises(TimeoutError):
                forgetting.result(0.5)
        forgetting.result()
        assert counted(world) == {1: 1}
