"""Finds out whether this server leads, and owns the threads on which the leader works."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from server.blobs import Blobs
from server.engines.base import Engine
from server.leader.loop import QUIET_SECONDS, Loop
from server.leader.starting import Alive, Starting
from server.leader.sweeping import Sweeping
from server.leader.term import Term
from server.leader.upkeep import Upkeep
from server.models import Catalog, Orphans
from server.queue import Queue
from server.settings.live import Live

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
LAST_SWEEP_SECONDS = 3.0  # how long a server that stops waits for a sweep, which can hang in a slow store


class Leader:
    """Asks at each tick whether this server leads. Starting, upkeep and sweeping never wait for each other.

    ``clock`` gives epoch seconds, as the queue's rows have them. ``starting`` also runs in servers that do not lead,
    because each server puts changed settings into force.
    """

    def __init__(
        self,
        live: Live,
        queue: Queue,
        blobs: Blobs,
        engine: Engine,
        server_url: str,
        catalog: Catalog,
        orphans: Orphans,
        clock: Callable[[], float] = time.time,
        alive: Alive = dict,
    ) -> None:
        self._live, self._queue, self._engine, self._clock = live, queue, engine, clock
        self.starting = Starting(live, queue, engine, server_url, clock, alive, catalog)
        self.upkeep = Upkeep(live, queue, engine, clock)
        self.sweeping = Sweeping(live, queue, blobs, orphans)
        self._term: Term | None = None
        self._stopping = threading.Event()
        self._asking = Loop("asking who leads", self.ask, self._tick)
        self._starting = Loop("starting", lambda: self.starting.step(self._term), self._soon)
        self._upkeep = Loop("upkeep", lambda: self._in_term(self.upkeep.step), self._tick)
        self._sweeping = Loop("sweeping", lambda: self._in_term(self.sweeping.step), lambda: SWEEP_SECONDS, daemon=True)

    def start(self) -> None:
        """Start the threads."""
        for loop in (self._asking, self._starting, self._upkeep, self._sweeping):
            loop.start()

    def nudge(self) -> None:
        """Something may be startable: look soon. Safe from any thread."""
        self._starting.nudge()

    def stop(self) -> None:
        """End each thread after the step under way, a sweep after its page."""
        self._stopping.set()
        if (term := self._term) is not None:
            term.end()
        for loop in (self._asking, self._starting, self._upkeep, self._sweeping):
            loop.stop()

    def join(self) -> None:
        """Wait for the threads, and have the engine end its Jobs."""
        for loop in (self._asking, self._starting, self._upkeep):
            loop.join()
        self._engine.close()
        if not self._sweeping.join(LAST_SWEEP_SECONDS):
            log.warning("a sweep still waits for the blobs' store: it ends with the process")

    def ask(self) -> Term | None:
        """Ask whether this server leads; returns the term if it does. Blocks for as long as asking takes."""
        leads = False
        try:
            leads = self._queue.leads()
        finally:  # without an answer the term is over as well: another server may lead by now
            self._know(leads)
        return self._term

    def _know(self, leads: bool) -> None:
        if leads and self._term is None:
            log.info("this server leads from now on")
            self._term = Term(self._clock() + self._live.current.settings.lease.seconds)
            if self._stopping.is_set():  # ``stop`` came while this server asked, and found no term to end
                self._term.end()
            for loop in (self._starting, self._upkeep, self._sweeping):
                loop.nudge()
        elif self._term is not None and not leads:
            log.warning("this server no longer leads: another one does, or the database is away")
            self._term.end()
            self._term = None

    def _in_term(self, step: Callable[[Term], None]) -> None:
        if (term := self._term) is not None and not term.over:
            step(term)

    def _soon(self) -> float:
        """Until the next look: nobody tells that a process has ended, or a pod counts in its quota no more."""
        return QUIET_SECONDS if self.starting.awaits_room else self._tick()

    def _tick(self) -> float:
        return self._live.current.settings.tick
