"""The queue's SQLite file: who may open it, how it commits, and what happens when the disk or the process fails."""

from __future__ import annotations

import random
import resource
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.queue import (
    Available,
    DatabaseBusy,
    DatabaseClosed,
    Queue,
    QueueError,
    SQLite,
    StorageError,
    Submitted,
    steady,
)
from server.queue.facts.states import EDGES, FINAL, Status
from server.queue.operations.moves import transition
from server.queue.store.database import WAITING, since_boot
from server.queue.store.sqlite import FILE
from server.queue.store.transactions import Transaction
from tests.server.given import HandClock, submission
from tests.server.queue.queue_world import MANY, World, child, line_of


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


@contextmanager
def writer_held(world: World) -> Iterator[None]:
    """Keep the writer inside a transaction while the block lasts, so that the block's operations form one group."""
    entered, leave = threading.Event(), threading.Event()

    def hold(_: Transaction) -> None:
        entered.set()
        leave.wait(30)

    held = world.database.write(hold)
    entered.wait(30)
    try:
        yield
    finally:
        leave.set()
        held.result(30)


def test_operations_that_wait_together_are_committed_together(world: World) -> None:
    with writer_held(world):
        futures = [world.queue.submit(world.submission(tier=f"tier-{number}"), MANY) for number in range(10)]
    for future in futures:
        future.result()
    world.database.write(lambda _: None).result()
    assert world.told == [[Available(f"tier-{number}") for number in range(10)]]


def test_time_stands_still_within_a_transaction(tmp_path: Path) -> None:
    ticks = iter(range(1_000_000))
    with SQLite.open(tmp_path, lambda: float(next(ticks))) as database:
        first, second = database.write(lambda tx: (tx.now, tx.now)).result()
    assert first == second


def test_an_operation_that_fails_spoils_no_neighbour(world: World) -> None:
    def fail(_: Transaction) -> None:
        raise ZeroDivisionError

    with writer_held(world):
        before = world.queue.submit(world.submission(), MANY)
        failing = world.database.write(fail)
        after = world.queue.submit(world.submission(), MANY)
    assert isinstance(failing.exception(), ZeroDivisionError)
    ids = {before.result().prediction.id, after.result().prediction.id}
    assert world.queue.alive(ids).result() == ids


def test_an_operation_given_up_in_time_is_not_done(world: World) -> None:
    submission = world.submission()
    with writer_held(world):
        future = world.queue.submit(submission, MANY)
        assert future.cancel()
    with pytest.raises(CancelledError):
        future.result()
    assert world.queue.get(submission.id).result() is None


def test_a_listener_that_fails_stops_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    world.queue.listen(fail)
    world.submit()
    world.submit()
    assert world.heard() == [Available("free"), Available("free")]
    assert "listener" in caplog.text


def test_each_transaction_that_was_kept_is_measured(world: World) -> None:
    def fail(_: Transaction) -> None:
        raise ZeroDivisionError

    told: list[float] = []
    world.queue.when_committed(told.append)
    world.submit()
    world.database.read(lambda _: None).result()
    world.database.write(fail).exception()
    world.heard()
    assert len(told) == 2, "the transaction of the test's last call, and neither what was read nor what failed"
    assert all(0 < seconds < 30 for seconds in told)


def test_a_transaction_is_kept_whatever_becomes_of_its_measure(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.queue.when_committed(lambda seconds: [][int(seconds)])
    assert world.status(world.submit()) is Status.QUEUED
    assert "what measures commits failed" in caplog.text


def test_too_many_waiting_operations_are_refused(world: World) -> None:
    futures: list[Future[Submitted]] = []
    with writer_held(world), pytest.raises(DatabaseBusy):
        for _ in range(WAITING + 1):
            futures.append(world.queue.submit(world.submission(), MANY))
    assert len({future.result().prediction.id for future in futures}) == WAITING


def test_closing_finishes_what_waits_and_refuses_what_comes(world: World) -> None:
    with writer_held(world):
        futures = [world.queue.submit(world.submission(), MANY) for _ in range(100)]
        closing = threading.Thread(target=world.stop)
        closing.start()
    closing.join(30)
    assert len({future.result(0).prediction.id for future in futures}) == 100
    for ask in (world.queue.depths, lambda: world.queue.submit(world.submission(), 1)):
        with pytest.raises(DatabaseClosed):
            ask()
    world.start()
    assert world.queue.depths().result()["free"].queued == 100


def test_every_commit_is_forced_to_disk(world: World) -> None:
    def pragma(name: str) -> object:
        return world.database.write(lambda tx: tx.cursor.execute(f"PRAGMA {name}").fetchone()[0]).result()

    assert (pragma("journal_mode"), pragma("synchronous")) == ("wal", 2)


def test_readers_cannot_write(world: World) -> None:
    with pytest.raises(QueueError):
        world.database.read(lambda tx: tx.cursor.execute("DELETE FROM predictions")).result()


def test_closing_folds_the_log_into_the_file(world: World) -> None:
    world.submit()
    world.stop()
    assert sorted(path.name for path in (world.directory / "data").iterdir()) == ["lock", FILE]
    world.start()


def test_the_log_stays_bounded(world: World) -> None:
    text = "x" * 100_000
    for _ in range(10):
        for future in [world.queue.submit(world.submission(owner=text), MANY) for _ in range(64)]:
            future.result()
    log = world.directory / "data" / f"{FILE}-wal"
    assert log.stat().st_size < 24 << 20


def test_a_full_disk_refuses_keeps_what_is_there_and_recovers(world: World) -> None:
    kept = [world.submit() for _ in range(20)]
    log = world.directory / "data" / f"{FILE}-wal"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 50_000, hard))
    try:
        futures = [world.queue.submit(world.submission(owner="x" * 2000), MANY) for _ in range(200)]
        refused = [future for future in futures if isinstance(future.exception(), StorageError)]
        assert refused
        accepted = [future.result().prediction.id for future in futures if future.exception() is None]
        assert world.queue.alive(kept + accepted).result() == {*kept, *accepted}
        assert world.queue.depths().result()["free"].queued == len(kept) + len(accepted)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    later = world.submit()
    world.restart()
    assert world.queue.alive([*kept, *accepted, later]).result() == {*kept, *accepted, later}
    assert world.queue.depths().result()["free"].queued == len(kept) + len(accepted) + 1


def test_a_database_at_its_size_refuses_and_recovers(world: World) -> None:
    def pages(most: int) -> None:
        statement = f"PRAGMA max_page_count = {most}"
        world.database.write(lambda tx: tx.cursor.execute(statement).fetchone()[0]).result()

    pages(30)
    with pytest.raises(StorageError, match="full"):
        for _ in range(1000):
            world.submit()
    depth = world.queue.depths().result()["free"].queued
    assert 0 < depth < 1000
    pages(1 << 30)
    world.submit()
    assert world.queue.depths().result()["free"].queued == depth + 1


@pytest.mark.parametrize("seed", range(6))
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, seed: int) -> None:
    with child(tmp_path) as process:
        lines = random.Random(seed).randrange(1, 400)
        acknowledged = {line_of(process) for _ in range(lines)}
        process.kill()
        assert process.stdout is not None
        rest = process.stdout.read()
        acknowledged |= set(rest.splitlines() if rest.endswith("\n") else rest.splitlines()[:-1])
        process.wait(30)
    with SQLite.open(tmp_path) as database:
        queue = Queue(database)
        assert queue.alive(acknowledged).result() == acknowledged
        # Submits that were not acknowledged may be there too, but each row is complete and counted.
        waiting = queue.depths().result()["free"].queued
        assert len(acknowledged) <= waiting <= len(acknowledged) + 8


def test_a_steady_clock_starts_at_the_systems_time_and_only_goes_forward() -> None:
    clock = steady()
    readings = [clock() for _ in range(100)]
    assert abs(readings[0] - time.time()) < 1
    assert readings == sorted(readings)


def test_a_clock_that_was_set_back_lets_nobody_overtake_what_waits(tmp_path: Path) -> None:
    ahead = time.time() + 3600
    with SQLite.open(tmp_path, lambda: ahead) as database:
        Queue(database).submit(submission(database.clock), 10).result()
    with SQLite.open(tmp_path) as database:
        assert database.clock() >= ahead


def test_a_steady_clock_ignores_jumps_of_the_systems_and_counts_what_was_slept() -> None:
    wall, counting = HandClock(1_800_000_000.0), HandClock(500.0)
    clock = steady(wall, counting)
    wall.advance(-3600)
    assert clock() == 1_800_000_000.0
    counting.advance(8 * 3600)  # a laptop that was closed for a night
    assert clock() == 1_800_000_000.0 + 8 * 3600


def test_time_is_counted_from_the_start_of_the_machine_with_its_sleep() -> None:
    before = float(Path("/proc/uptime").read_text().split()[0])
    assert before - 0.02 <= since_boot() <= float(Path("/proc/uptime").read_text().split()[0]) + 0.02


@pytest.mark.parametrize("source", Status)
@pytest.mark.parametrize("target", Status)
def test_only_legal_edges_have_a_statement(source: Status, target: Status) -> None:
    if target in EDGES[source]:
        transition(source, target)
    else:
        with pytest.raises(ValueError, match="no prediction goes"):
            transition(source, target)


def test_final_states_lead_nowhere() -> None:
    assert set(Status) - {Status.QUEUED, Status.LEASED} == FINAL
    assert not any(EDGES[status] for status in FINAL)
