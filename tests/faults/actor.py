"""A thread that repeats a step until it is stopped. What went wrong in it is raised where it is stopped."""

from __future__ import annotations

import sys
import threading
import traceback
from abc import ABC, abstractmethod

STOP_SECONDS = 60.0


class Actor(threading.Thread, ABC):
    """The base of clients, of workers, and of those that watch a server or start it again."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.over = threading.Event()
        self.failure: BaseException | None = None

    @abstractmethod
    def step(self) -> None:
        """Do one thing; called again and again."""

    def run(self) -> None:
        """Repeat the step until the actor is stopped or a step fails."""
        try:
            while not self.over.is_set():
                self.step()
        except BaseException as error:  # noqa: BLE001 (raised by check and stop, on the thread of the test)
            self.failure = error

    def stop(self) -> None:
        """Stop, and return when the thread has ended. Raises the error that ended it early."""
        self.over.set()
        self.join(STOP_SECONDS)
        assert not self.is_alive(), f"{self.name} does not stop within {STOP_SECONDS:g} s, it is here:\n{self._where()}"
        self.check()

    def _where(self) -> str:
        """The stack of its thread."""
        frame = sys._current_frames().get(self.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame is not None else "at its end"

    def check(self) -> None:
        """Raise the error that ended the thread early, if one did."""
        if self.failure is not None:
            raise self.failure
