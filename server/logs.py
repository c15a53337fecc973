"""Bounds the log: whatever strangers do, it grows by some lines a minute, but for the log that operators turn on."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable

SECONDS = 60.0
LINES = 300  # from one logger within ``SECONDS``
AUDIT = "server.audit"  # only operators cause its lines, and none of them may be left out


class Tally:
    """Counts what may happen very often, and logs the count once a minute. ``sentence`` has a %d for it."""

    def __init__(self, log: logging.Logger, sentence: str, clock: Callable[[], float]) -> None:
        self._log, self._sentence, self._clock = log, sentence, clock
        self._count, self._next = 0, -math.inf
        self._details: tuple[object, ...] = ()

    def add(self, *details: object) -> None:
        """Count one more, and log it if the last line is a minute old; ``details`` are for what follows the %d."""
        self._count, self._details = self._count + 1, details
        self.say()

    def say(self) -> None:
        """Log what was counted since the last line, if that is a minute old."""
        now = self._clock()
        if self._count and now >= self._next:
            self._log.warning(self._sentence, self._count, *self._details)
            self._count, self._next = 0, now + SECONDS


class Throttle(logging.Filter):
    """Passes ``LINES`` records of each logger in a minute. The first one of a later minute says how many were left out.

    Loggers are named in the code, so there are few of them. Of ``AUDIT`` all records pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Called by a handler for each record, which it holds a lock for."""
        if record.name == AUDIT:
            return True
        now = self._clock()
        since, count = self._seen.get(record.name, (now, 0))
        if now - since >= SECONDS:
            if count > LINES:
                record.msg, record.args = f"({count - LINES} lines left out before) {record.getMessage()}", ()
            since, count = now, 0
        self._seen[record.name] = since, count + 1
        return count < LINES


def unbounded(name: str) -> None:
    """Have the lines of this logger go to standard error as they are, every one of them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger(name)
    log.propagate = False
    log.addHandler(handler)
