"""A step that is done again and again, on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from server.blobs import BlobError
from server.engines.base import EngineError
from server.queue import QueueError

log = logging.getLogger(__name__)

QUIET_SECONDS = 0.25  # the shortest pause between two steps, however often somebody nudges
EXPECTED = (QueueError, EngineError, BlobError, OSError)  # a TimeoutError is an OSError

Wait = Callable[[threading.Event, float], object]


class Loop:
    """Does ``step`` each ``seconds()`` and, between, when nudged, until stopped.

    A step that fails is logged, but not again while the next ones fail for the same reason.

    ``daemon``: the process may end while a step is under way. ``wait`` returns once the event is set or so many seconds
    are over.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], object],
        seconds: Callable[[], float],
        *,
        daemon: bool = False,
        wait: Wait = threading.Event.wait,
    ) -> None:
        self.name = name
        self._step, self._seconds, self._wait = step, seconds, wait
        self._stopping, self._nudged = threading.Event(), threading.Event()
        self._trouble = ""
        self._thread = threading.Thread(target=self.run, name=name, daemon=daemon)

    def start(self) -> None:
        """Have the thread run."""
        self._thread.start()

    def nudge(self) -> None:
        """Have the next step soon. Safe from any thread; a nudge during a step brings one more."""
        self._nudged.set()

    def stop(self) -> None:
        """End after the step under way."""
        self._stopping.set()
        self._nudged.set()

    def join(self, seconds: float | None = None) -> bool:
        """Wait for the thread's end, at most so long; whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def run(self) -> None:
        """Step until stopped."""
        while not self._stopping.is_set():
            try:
                self._step()
                self._tell("")
            except EXPECTED as error:
                self._tell(str(error) or type(error).__name__)
            except Exception:  # an end of this thread would go unnoticed: no Job would start any more
                log.exception("%s failed, and is tried again within %g s", self.name, self._seconds())
            self._wait(self._stopping, QUIET_SECONDS)
            self._wait(self._nudged, self._seconds() - QUIET_SECONDS)
            self._nudged.clear()  # before the step: a nudge that comes during it brings one more

    def _tell(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.error("%s failed, and is tried again within %g s: %s", self.name, self._seconds(), trouble)
        elif self._trouble and not trouble:
            log.info("%s works again", self.name)
        self._trouble = trouble
