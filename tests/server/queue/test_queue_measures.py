"""How models did is summed over all servers, on each database."""

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

from server.queue import Measured, Queue
from server.queue.operations.measures import KEPT, PAGE
from server.queue.store import postgresql, tables
from server.queue.store.transactions import Transaction
from tests.server.queue.queue_world import TwoServersWorld, World

OLD, NEW = "flowers@11111111 onnx/int8", "flowers@22222222 timm/fp32"
COUNTS = st.integers(0, 1 << 40)
TIMES = st.dictionaries(st.integers(-20, 80), st.integers(1, 1000), max_size=4)
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["free", "premium"]),
        st.sampled_from([OLD, NEW, "it's @ 100 %s"]),
        st.builds(Measured, COUNTS, COUNTS, COUNTS, COUNTS, TIMES),
    ),
    max_size=8,
)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[TwoServersWorld]:
    with TwoServersWorld(tmp_path) as world:
        yield world


def rows(world: World) -> int:
    def count(tx: Transaction) -> int:
        ((found,),) = tx.rows(sa.select(sa.func.count()).select_from(tables.measures))
        return int(found)

    return world.database.read(count).result()


def test_measures_add_up(world: World) -> None:
    assert world.queue.measured().result() == {}
    world.queue.measure([("free", OLD, Measured(1, 2, 0, 1, {3: 1})), ("free", NEW, Measured(5))]).result()
    world.queue.measure([]).result()
    told = [("free", OLD, Measured(2, 2, 1, 0, {3: 1, -1: 1})), ("premium", OLD, Measured(7, milliseconds={9: 7}))]
    world.queue.measure(told).result()
    world.restart()
    assert world.queue.measured().result() == {
        ("free", OLD): Measured(3, 4, 1, 1, {3: 2, -1: 1}),
        ("free", NEW): Measured(5),
        ("premium", OLD): Measured(7, milliseconds={9: 7}),
    }


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(ROWS, max_size=4))
def test_whatever_is_told_is_summed(world: World, batches: list[list[tuple[str, str, Measured]]]) -> None:
    world.database.write(lambda tx: tx.change(sa.delete(tables.measures), {})).result()
    counts: Counter[tuple[str, str, str]] = Counter()
    times: Counter[tuple[str, str, int]] = Counter()
    for batch in batches:
        world.queue.measure(batch).result()
        for tier, key, one in batch:
            for name in ("predictions", "pictures", "failed", "unsure"):
                counts[tier, key, name] += getattr(one, name)
            for at, many in one.milliseconds.items():
                times[tier, key, at] += many
    found = world.queue.measured().result()
    assert found.keys() == {(tier, key) for batch in batches for tier, key, _ in batch}
    assert all(getattr(found[tier, key], name) == many for (tier, key, name), many in counts.items())
    assert {(*pair, at): many for pair, one in found.items() for at, many in one.milliseconds.items()} == times


def test_a_model_to_which_nothing_was_added_for_long_is_forgotten(world: World) -> None:
    many = 2 * PAGE + 5
    world.queue.measure([("free", f"{at}", Measured(1)) for at in range(many)]).result()
    world.clock.advance(KEPT - 1)
    world.queue.measure([("free", "0", Measured(1))]).result()
    assert not world.queue.forget_measures().result()
    world.clock.advance(1)
    assert [world.queue.forget_measures().result() for _ in range(3)] == [True, True, False]
    assert world.queue.measured().result() == {("free", "0"): Measured(2)}


def test_two_servers_that_tell_of_the_same_models_never_wait_for_each_other(two: TwoServersWorld) -> None:
    first, second = Queue(two.database), Queue(two.second)
    keys = [f"model {at}" for at in range(30)]
    told: list[Future[None]] = []
    for _ in range(20):
        told.append(first.measure([("free", key, Measured(1, 2, milliseconds={1: 1})) for key in keys]))
        told.append(second.measure([("free", key, Measured(1, 2, milliseconds={2: 1})) for key in reversed(keys)]))
    for one in told:
        one.result(20)
    whole = Measured(40, 80, milliseconds={1: 20, 2: 20})
    assert first.measured().result() == {("free", key): whole for key in keys}
    assert rows(two) == 60


def test_two_servers_of_one_slot_lose_nothing(two: TwoServersWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "SLOTS", 1)
    queues = (Queue(two.database), Queue(two.second))
    told = [queue.measure([("free", OLD, Measured(1, milliseconds={1: 1}))]) for _ in range(50) for queue in queues]
    for one in told:
        one.result(20)
    assert queues[0].measured().result() == {("free", OLD): Measured(100, milliseconds={1: 100})}
    assert rows(two) == 1


def test_a_row_that_another_server_writes_is_not_waited_for(two: TwoServersWorld) -> None:
    two.queue.measure([("free", OLD, Measured(1)), ("free", NEW, Measured(1))]).result()
    two.clock.advance(KEPT)
    with psycopg.connect(two.url, autocommit=True, connect_timeout=5) as other:
        other.execute("BEGIN")
        other.execute("UPDATE measures SET failed = 5 WHERE model = %s", [OLD])
        two.queue.forget_measures().result(10)
        other.execute("ROLLBACK")
    assert rows(two) == 1
