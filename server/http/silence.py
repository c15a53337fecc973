"""Notices the channels over which nothing is heard any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

LOOK_SECONDS = 1.0


class Speaker(Protocol):
    """A channel whose worker says something from time to time."""

    def unheard(self, seconds: float) -> None:
        """Called about once a second: so long ago is the last message."""


class Silence:
    """All open channels, on the event loop. One timer looks at them; it stops while there are none."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heard: dict[Speaker, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def heard(self, speaker: Speaker) -> None:
        """It has just said something, or begins now."""
        self._heard[speaker] = self._clock()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._tick)

    def end(self, speaker: Speaker) -> None:
        """It is closed; further calls change nothing."""
        self._heard.pop(speaker, None)

    def look(self) -> None:
        """Tell each channel how long its worker has been silent."""
        now = self._clock()
        for speaker, at in list(self._heard.items()):
            speaker.unheard(now - at)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.look()
        finally:
            if self._heard:
                self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._tick)
