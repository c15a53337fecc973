"""Which owners have most predictions accepted."""

from __future__ import annotations

import threading
from collections import Counter as Counts
from collections.abc import Callable

SHOWN_OWNERS, MOST_OWNERS = 10, 10_000
PERIOD_SECONDS = 300.0


class Busiest:
    """Which owners had most predictions accepted in the period under way and in the one before; from any thread.

    There may be any number of owners over time, so only so many of them are counted in a period.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._period, self._now, self._before = self._current(), Counts[str](), Counts[str]()

    def add(self, owner: str) -> None:
        """Count one more."""
        with self._lock:
            self._turn()
            if owner in self._now or len(self._now) < MOST_OWNERS:
                self._now[owner] += 1

    def owners(self) -> dict[str, int]:
        """The busiest owners with their counts, the busiest first."""
        with self._lock:
            self._turn()
            return dict((self._now + self._before).most_common(SHOWN_OWNERS))

    def _turn(self) -> None:
        if (passed := self._current() - self._period) > 0:
            self._before = self._now if passed == 1 else Counts[str]()
            self._now, self._period = Counts[str](), self._period + passed

    def _current(self) -> int:
        return int(self._clock() // PERIOD_SECONDS)
