"""The leader: one server leads, its loops never wait for each other, and it stops at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.blobs import DirectoryBlobs
from server.engines.base import Job
from server.leader.leader import LAST_SWEEP_SECONDS, Leader
from server.leader.sweeping import PAGE
from server.queue import Queue, Status, StorageError
from server.settings.records import Tier
from tests.server.leader.leader_world import Obedient, World
from tests.waiting import eventually

DAY = 86400.0
PROMPT_SECONDS = 2.0


class Held(DirectoryBlobs):
    """Waits in ``older_than`` until ``let_go`` is set."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.entered, self.let_go = threading.Event(), threading.Event()

    def older_than(self, seconds: float) -> Iterator[str]:
        self.entered.set()
        assert self.let_go.wait(60)
        return super().older_than(seconds)


class Elected(Queue):
    """Leads when ``leading`` says so, and counts how often it was asked."""

    leading: bool | StorageError = False
    asked = 0

    def leads(self) -> bool:
        self.asked += 1
        if isinstance(self.leading, StorageError):
            raise self.leading
        return self.leading


@pytest.fixture
def held(tmp_path: Path, worlds: list[World]) -> Iterator[World]:
    """A world with a prediction to sweep. The sweep of the blobs waits until ``let_go`` is set."""
    blobs = Held(tmp_path / "blobs")
    worlds.append(world := World(tmp_path, Obedient(), blobs=blobs))
    world.finish()
    world.clock.now += DAY + 1
    yield world
    blobs.let_go.set()


@contextmanager
def running(leader: Leader) -> Iterator[Leader]:
    leader.start()
    try:
        yield leader
    finally:
        leader.stop()
        leader.join()


def took(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def test_a_sweep_that_hangs_delays_no_start_and_no_reclaim(held: World) -> None:
    assert isinstance(held.blobs, Held)
    with running(held.leader):
        assert held.blobs.entered.wait(20)
        first = held.submit()
        held.leader.nudge()
        (name,) = eventually(lambda: held.engine.started, 20, "a Job is started")
        held.lease(name)
        late = held.submit(deadline=5)
        held.clock.now += held.settings.lease.seconds + held.settings.lease.reclaim
        eventually(lambda: held.get(late).status, 20, "its deadline passes", lambda status: status is Status.ABORTED)
        eventually(lambda: held.get(first).attempts, 20, "its lease is lost and counted", lambda count: count == 1)
        eventually(lambda: held.get(first).status, 20, "it waits again", lambda status: status is Status.QUEUED)
        assert not held.blobs.let_go.is_set()
        held.blobs.let_go.set()


def test_stopping_is_prompt_while_a_sweep_hangs(held: World) -> None:
    assert isinstance(held.blobs, Held)
    held.submit()
    held.leader.start()
    assert held.blobs.entered.wait(20)
    eventually(lambda: held.engine.running, 20, "a Job runs")
    held.leader.stop()
    assert took(held.leader.join) < LAST_SWEEP_SECONDS + PROMPT_SECONDS
    assert held.engine.running == {}, "the engine has ended its Jobs all the same"


def test_stopping_ends_a_long_sweep_after_its_page(tmp_path: Path, worlds: list[World]) -> None:
    class Endless(DirectoryBlobs):
        """Never runs out of orphans."""

        pages = 0

        def older_than(self, seconds: float) -> Iterator[str]:
            while True:
                yield from ["porphan"] * PAGE
                self.pages += 1

    worlds.append(world := World(tmp_path, Obedient(), blobs=(blobs := Endless(tmp_path / "blobs"))))
    world.leader.start()
    eventually(lambda: blobs.pages, 20, "pages are swept", lambda pages: pages >= 3)
    world.leader.stop()
    assert took(world.leader.join) < LAST_SWEEP_SECONDS
    assert not any(thread.name == "sweeping" for thread in threading.enumerate())


def test_only_the_server_that_leads_works(held: World) -> None:
    assert isinstance(held.blobs, Held)
    held.blobs.let_go.set()
    queue = Elected(held.database)
    old, waiting, late = held.finish(), held.submit(deadline=10 * DAY), held.submit("premium", deadline=5)
    held.clock.now += DAY + 1
    with running(held.another(queue)):
        eventually(lambda: queue.asked, 20, "each loop has had a second turn", lambda times: times >= 3)
        assert held.queue.get(old).result(10) is not None
        assert held.get(late).status is Status.QUEUED
        assert (held.engine.started, held.get(waiting).status) == ([], Status.QUEUED)
        queue.leading = True
        eventually(lambda: held.queue.get(old).result(10), 20, "old rows are swept", lambda found: found is None)
        eventually(lambda: held.get(late).status, 20, "its deadline passes", lambda status: status is Status.ABORTED)
        eventually(lambda: held.engine.started, 20, "a Job is started")


def test_a_term_ends_when_another_server_leads_or_nobody_can_tell(world: World) -> None:
    queue = Elected(world.database)
    leader = world.another(queue)
    assert leader.ask() is None
    queue.leading = True
    first = leader.ask()
    assert first is not None
    assert leader.ask() is first
    queue.leading = False
    assert leader.ask() is None
    assert first.over
    queue.leading = True
    second = leader.ask()
    assert second is not None
    assert not second.over
    queue.leading = StorageError("the database is away")
    with pytest.raises(StorageError):
        leader.ask()
    assert second.over


def test_leases_count_one_lease_after_a_term_began(world: World) -> None:
    term = world.term()
    began, length = world.clock.now, world.settings.lease.seconds
    assert not term.leases_count(began + length - 0.1)
    assert term.leases_count(began + length)


def test_a_server_that_stops_begins_no_term_to_work_in(world: World) -> None:
    leader = world.another()
    leader.stop()
    term = leader.ask()
    assert term is not None
    assert term.over


def test_an_unexpected_failure_stops_only_its_tier_and_the_engine_is_closed(
    tmp_path: Path, worlds: list[World], caplog: pytest.LogCaptureFixture
) -> None:
    class Once(Obedient):
        """Fails at its first look, with an error that no code expects."""

        looks = 0

        def jobs(self, tier: Tier) -> Sequence[Job]:
            self.looks += 1
            if self.looks == 1:
                raise RuntimeError("once")
            return super().jobs(tier)

    engine = Once()
    worlds.append(world := World(tmp_path, engine))
    world.submit()
    world.submit("premium")
    world.look()
    assert ["premium" in name for name in engine.started] == [True]
    assert world.view().reason == "RuntimeError: once"
    with running(world.leader):
        eventually(lambda: len(engine.started) == 2, 20, "a Job of the tier free is started")
    assert engine.running == {}
    assert caplog.records[0].getMessage() == "tier free cannot be looked after"
