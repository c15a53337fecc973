"""What happened in each minute is summed over all servers and kept for an hour, on each database.

It could be lost or counted twice when servers tell at once, stay for ever, or be mixed up between tiers and minutes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.queue import KEPT_MINUTES, Minute, Queue, minute_of
from server.queue.operations.minutes import PAGE
from server.queue.store import postgresql, tables
from server.queue.store.transactions import Transaction
from tests.server.queue.queue_world import TwoServersWorld, World

COUNTS = st.integers(0, 1 << 40)
WAITS = st.dictionaries(st.integers(0, 108), st.integers(1, 1000), max_size=4)
AGES = st.integers(0, KEPT_MINUTES - 1)
TOLD = st.lists(
    st.tuples(st.sampled_from(["free", "it's 100 %s"]), st.builds(Minute, AGES, COUNTS, COUNTS, COUNTS, WAITS)),
    max_size=8,
)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[TwoServersWorld]:
    with TwoServersWorld(tmp_path) as world:
        yield world


def rows(world: World) -> int:
    def count(tx: Transaction) -> int:
        ((found,),) = tx.rows(sa.select(sa.func.count()).select_from(tables.minutes))
        return int(found)

    return world.database.read(count).result()


def test_the_minutes_of_a_tier_add_up(world: World) -> None:
    now = minute_of(world.clock.now)
    assert world.queue.minutes("free").result() == []
    world.queue.count([("free", Minute(now, 5, 1, 0, {3: 1})), ("free", Minute(now - 1, 1))]).result()
    world.queue.count([]).result()
    world.queue.count([("premium", Minute(now, 9)), ("free", Minute(now, 2, 3, 4, {3: 1, 9: 2}))]).result()
    world.restart()
    assert world.queue.minutes("free").result() == [Minute(now - 1, 1), Minute(now, 7, 4, 4, {3: 2, 9: 2})]
    assert world.queue.latest_minutes(["free", "premium", "gone"], 1).result() == {
        ("free", now): Minute(now, 7, 4, 4),
        ("premium", now): Minute(now, 9),
    }


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(TOLD, max_size=4))
def test_whatever_is_told_is_summed(world: World, batches: list[list[tuple[str, Minute]]]) -> None:
    world.database.write(lambda tx: tx.change(sa.delete(tables.minutes), {})).result()
    now = minute_of(world.clock.now)
    counts: Counter[tuple[str, int, str | int]] = Counter()
    for batch in batches:
        told = [(tier, Minute(now - one.at, one.accepted, one.succeeded, one.failed, one.waits)) for tier, one in batch]
        world.queue.count(told).result()
        for tier, one in told:
            for name in ("accepted", "succeeded", "failed"):
                counts[tier, one.at, name] += getattr(one, name)
            for at, many in one.waits.items():
                counts[tier, one.at, at] += many
    for tier in ("free", "it's 100 %s"):
        found = world.queue.minutes(tier).result()
        assert [one.at for one in found] == sorted({at for of, at, _ in counts if of == tier})
        for one in found:
            for name in ("accepted", "succeeded", "failed"):
                assert getattr(one, name) == counts[tier, one.at, name]
            waits = {at: many for (of, then, at), many in counts.items() if (of, then) == (tier, one.at)}
            assert one.waits == {at: many for at, many in waits.items() if isinstance(at, int)}


def test_after_an_hour_a_minute_is_neither_told_nor_kept(world: World) -> None:
    start = minute_of(world.clock.now)
    world.queue.count([(f"tier {at}", Minute(start, 1)) for at in range(PAGE + 5)]).result()
    world.clock.advance(60)
    world.queue.count([("tier 0", Minute(start + 1, 1))]).result()
    world.clock.advance(60 * (KEPT_MINUTES - 2))
    assert [one.at for one in world.queue.minutes("tier 0").result()] == [start, start + 1]
    assert not world.queue.forget_minutes().result()
    world.clock.advance(60)
    assert [one.at for one in world.queue.minutes("tier 0").result()] == [start + 1]
    assert [world.queue.forget_minutes().result() for _ in range(2)] == [True, False]
    assert rows(world) == 1


def test_two_servers_that_tell_at_once_never_wait_for_each_other(two: TwoServersWorld) -> None:
    queues, now = (Queue(two.database), Queue(two.second)), minute_of(two.clock.now)
    told = [("free", Minute(now, 1, 1, waits={1: 1})), ("premium", Minute(now, 1))]
    answers: list[Future[None]] = []
    for _ in range(20):
        answers += [queues[0].count(told), queues[1].count(told[::-1])]
    for answer in answers:
        answer.result(20)
    assert queues[0].minutes("free").result() == [Minute(now, 40, 40, 0, {1: 40})]
    assert rows(two) == 4


def test_two_servers_of_one_slot_lose_nothing(two: TwoServersWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "SLOTS", 1)
    queues, now = (Queue(two.database), Queue(two.second)), minute_of(two.clock.now)
    told = [queue.count([("free", Minute(now, 1, waits={1: 1}))]) for _ in range(50) for queue in queues]
    for one in told:
        one.result(20)
    assert queues[0].minutes("free").result() == [Minute(now, 100, waits={1: 100})]
    assert rows(two) == 1


def test_a_row_that_another_server_writes_is_not_waited_for(two: TwoServersWorld) -> None:
    now = minute_of(two.clock.now)
    two.queue.count([("free", Minute(now, 1)), ("premium", Minute(now, 1))]).result()
    two.clock.advance(3600)
    with psycopg.connect(two.url, autocommit=True, connect_timeout=5) as other:
        other.execute("BEGIN")
        other.execute("UPDATE minutes SET failed = 5 WHERE tier = 'free'")
        two.queue.forget_minutes().result(10)
        other.execute("ROLLBACK")
    assert rows(two) == 1
