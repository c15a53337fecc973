"""Work on many rows leaves the database time for everything else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from server.leader.paging import LONGEST_REST, pages
from server.leader.term import Term
from server.queue.operations.upkeep import PAGE
from tests.server.given import HandClock
from tests.server.leader.leader_world import Obedient, World


class Resting(Term):
    """Does not wait, but records for how long it should, and ends after so many rests."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__(0.0)
        self.rests: list[float] = []
        self._most = most

    def rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        if len(self.rests) == self._most:
            self.end()


def answering(clock: HandClock, seconds: list[float]) -> Iterator[Future[int]]:
    """Pages that take so long."""
    for number, one in enumerate(seconds):
        clock.advance(one)
        future: Future[int] = Future()
        future.set_result(number)
        yield future


def test_after_each_page_it_rests_as_long_as_the_page_took_but_not_for_ever() -> None:
    clock, term = HandClock(0.0), Resting()
    answers = answering(clock, [0.25, 0.5, 60.0, 0.125])
    for number in pages(lambda: next(answers), term, clock):
        clock.advance(5)  # what the caller does with a page costs the database nothing
        if number == 3:
            break
    assert term.rests == [0.25, 0.5, LONGEST_REST]


def test_a_term_that_is_over_ends_it_between_two_pages() -> None:
    clock, term = HandClock(0.0), Resting(2)
    answers = answering(clock, [0.1] * 9)
    assert list(pages(lambda: next(answers), term, clock)) == [0, 1]


def test_a_rest_ends_with_the_term() -> None:
    term = Term(0.0)
    resting = threading.Thread(target=term.rest, args=(60,))
    resting.start()
    term.end()
    resting.join(20)
    assert not resting.is_alive()


@pytest.fixture
def many(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, Obedient())
    for _ in range(3 * PAGE):
        world.submit(deadline=10)
    yield world
    world.database.close()


def test_bulk_work_of_every_kind_rests_between_its_pages(many: World) -> None:
    many.clock.now += 11
    upkeep, sweeping = Resting(), Resting()
    many.leader.upkeep.step(upkeep)
    assert len(upkeep.rests) >= 3, "deadlines"
    assert many.queue.depths().result(10)["free"].queued == 0
    many.clock.now += 2 * 86400
    many.leader.sweeping.step(sweeping)
    assert len(sweeping.rests) == 3, "old rows"
    for _ in range(3 * PAGE):
        many.submit("removed")
    removing = Resting()
    many.leader.upkeep.step(removing)
    assert len(removing.rests) >= 3, "a removed tier"
    assert many.queue.depths().result(10)["removed"].queued == 0
