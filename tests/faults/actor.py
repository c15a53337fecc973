"""A thread that does one thing after another until it is told to stop, and tells whoever stops it what went wrong."""

from __future__ import annotations

import sys
import threading
import traceback
from abc import ABC, abstractmethod

STOP_SECONDS = 60.0


class Actor(threading.Thread, ABC):
    """Clients, workers, and those who look after a server."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.over = threading.Event()
        self.failure: BaseException | None = None

    @abstractmethod
    def step(self) -> None:
        """One thing."""

    def run(self) -> None:
        """One thing after another."""
        try:
            while not self.over.is_set():
                self.step()
        except BaseException as error:  # noqa: BLE001 (told to whoever stops it)
            self.failure = error

    def stop(self) -> None:
        """Return when it has ended. Raises what ended it early."""
        self.over.set()
        self.join(STOP_SECONDS)
        assert not self.is_alive(), f"{self.name} does not stop within {STOP_SECONDS:g} s, it is here:\n{self._where()}"
        self.check()

    def _where(self) -> str:
        """What its thread is doing."""
        frame = sys._current_frames().get(self.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame is not None else "at its end"

    def check(self) -> None:
        """Raise what ended it early."""
        if self.failure is not None:
            raise self.failure
