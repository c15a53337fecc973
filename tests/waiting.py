"""Waiting until something is seen. A wait in vain says what it waited for, how long, and what it saw last."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
SHOWN = 3000

T = TypeVar("T")


def eventually(
    look: Callable[[], T],
    seconds: float,
    what: str,
    enough: Callable[[T], object] = bool,
    despite: tuple[type[Exception], ...] = (),
) -> T:
    """Look again and again until what ``look`` sees is enough, and return it. Errors of ``despite`` mean look again.

    The last look begins when the time is over. Raises ``AssertionError`` with what was waited for and what was seen
    last.
    """
    end = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        try:
            seen = look()
            if enough(seen):
                return seen
            shown = repr(seen)
        except despite as error:
            shown = repr(error)
        except Exception as error:
            error.add_note(f"while waiting up to {seconds:g} s: {what}")
            raise
        now = time.monotonic()
        # Not ``now``: if a slow look ends after the deadline, there is one more that begins after it.
        if began >= end:
            raise AssertionError(f"not within {seconds:g} s: {what}; last seen: {shortened(shown)}")
        # As long as the look took, so that looking uses at most half of a processor.
        time.sleep(min(max(now - began, SHORTEST_PAUSE), LONGEST_PAUSE, max(end - now, 0)))


def shortened(text: str) -> str:
    """The beginning and the end of a long text."""
    half = SHOWN // 2
    return text if len(text) <= SHOWN else f"{text[:half]} ... {text[-half:]}"
