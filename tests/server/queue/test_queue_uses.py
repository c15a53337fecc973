"""What callers have used is summed over all servers, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from server.queue import Queue, Use, Used
from server.queue.operations import uses
from server.queue.store import tables
from server.queue.store.transactions import Transaction
from tests.server.queue.queue_world import TwoServersWorld, World

DAY = 20_000


@pytest.fixture
def two(tmp_path: Path) -> Iterator[TwoServersWorld]:
    with TwoServersWorld(tmp_path) as world:
        yield world


def use(requests: int = 0, pictures: int = 0, caller: str = "owner:anna", **changes: Any) -> Use:
    given: dict[str, Any] = {"tier": "free", "caller": caller, "day": DAY, "until": 100.0} | changes
    return Use(requests=requests, pictures=pictures, **given)


def rows(world: World) -> int:
    def count(tx: Transaction) -> int:
        ((found,),) = tx.rows(sa.select(sa.func.count()).select_from(tables.uses))
        return int(found)

    return world.database.read(count).result()


def test_uses_add_up(world: World) -> None:
    queue = world.queue
    assert queue.use([use(3, 5), use(1, 1, "owner:ben")]).result() == [Used(3, 5), Used(1, 1)]
    others = [use(2, -4), use(9, 9, tier="premium"), use(8, 8, day=DAY + 1)]
    assert queue.use(others).result() == [Used(5, 1), Used(9, 9), Used(8, 8)]


def test_asking_writes_nothing(world: World) -> None:
    assert world.queue.use([use()]).result() == [Used(0, 0)]
    assert rows(world) == 0


def test_the_last_pictures_of_a_day_are_taken_at_once_or_not_at_all(world: World) -> None:
    queue = world.queue
    assert queue.take_pictures(use(1, 4), 5, 10).result() == (True, Used(1, 9))
    assert queue.take_pictures(use(1, 0), 2, 10).result() == (False, Used(2, 9))
    assert queue.take_pictures(use(), 1, 10).result() == (True, Used(2, 10))
    # What was let in before is told in any case.
    assert queue.take_pictures(use(0, 3), 1, 10).result() == (False, Used(2, 13))


def test_a_row_goes_when_it_is_needed_no_longer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses, "PAGE", 100)
    now = world.clock.now
    told = [use(1, 0, f"address:{number}", until=now + number % 2 * 50) for number in range(300)]
    world.queue.use(told).result()
    world.queue.use([use(1, 0, "address:0", until=now + 50), use(1, 0, "address:1", until=now)]).result()
    assert [world.queue.forget_uses().result() for _ in range(2)] == [True, False]
    assert rows(world) == 151
    world.clock.advance(50)
    while world.queue.forget_uses().result():
        pass
    assert rows(world) == 0


def test_the_waiting_predictions_of_a_caller_are_counted(world: World) -> None:
    for _ in range(3):
        world.submit(size=10)
    world.submit(size=500, caller="owner:ben")
    world.submit(size=700, tier="premium")
    world.queue.cancel(world.submit()).result()
    assert world.queue.waiting_of("free", "owner:anna", 100).result() == (3, 30)
    assert world.queue.waiting_of("free", "owner:anna", 2).result() == (2, 20)
    assert world.queue.waiting_of("free", "owner:carl", 2).result() == (0, 0)


def test_two_servers_see_what_both_let_in(two: TwoServersWorld) -> None:
    first, second = Queue(two.database), Queue(two.second)
    assert first.use([use(1, 2)]).result() == [Used(1, 2)]
    assert second.use([use(10, 20)]).result() == [Used(11, 22)]
    assert first.take_pictures(use(), 9, 30).result() == (False, Used(11, 22))
    assert first.take_pictures(use(), 8, 30).result() == (True, Used(11, 30))
    assert rows(two) == 2


def test_two_servers_that_tell_of_the_same_callers_never_wait_for_each_other(two: TwoServersWorld) -> None:
    """In whatever order they name them: a deadlock would fail an operation, or cost a second."""
    first, second = Queue(two.database), Queue(two.second)
    callers = [f"owner:{number}" for number in range(100)]
    told: list[Future[list[Used]]] = []
    for _ in range(20):
        told.append(first.use([use(1, 1, caller) for caller in callers]))
        told.append(second.use([use(1, 1, caller) for caller in reversed(callers)]))
    for one in told:
        one.result(20)
    assert first.use([use(0, 0, caller) for caller in callers]).result() == [Used(40, 40)] * 100


def test_a_row_that_another_server_writes_is_not_waited_for(two: TwoServersWorld) -> None:
    two.queue.use([use(1, 0, until=0.0)]).result()
    two.queue.use([use(1, 0, "owner:ben", until=0.0)]).result()
    with psycopg.connect(two.url, autocommit=True, connect_timeout=5) as other:
        other.execute("BEGIN")
        other.execute("UPDATE uses SET requests = 5 WHERE caller = 'owner:anna'")
        two.queue.forget_uses().result(10)
        other.execute("ROLLBACK")
    assert rows(two) == 1
