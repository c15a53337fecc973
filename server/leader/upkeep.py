"""Does what time alone demands: takes back lost leases, ends what is overdue, and ends what removed tiers left."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from server.engines.base import Engine, EngineError
from server.leader.answers import answer
from server.leader.paging import pages
from server.leader.term import Term
from server.queue import JobRow, Queue
from server.settings.live import Live
from server.settings.records import Settings

log = logging.getLogger(__name__)

REMOVED = "its tier was removed"


class Upkeep:
    """Works for one thread. ``clock`` gives epoch seconds, as the queue's rows have them."""

    def __init__(self, live: Live, queue: Queue, engine: Engine, clock: Callable[[], float]) -> None:
        self._live, self._queue, self._engine, self._clock = live, queue, engine, clock
        self._reclaim_at = -math.inf

    def step(self, term: Term) -> None:
        """Do what is due."""
        settings, now = self._live.current.settings, self._clock()
        if now >= self._reclaim_at:
            self._reclaim_at = now + settings.lease.reclaim
            self._reclaim(settings, term, leases=term.leases_count(now))
        self._end_removed_tiers(term)

    def _reclaim(self, settings: Settings, term: Term, *, leases: bool) -> None:
        attempts = {name: tier.limits.attempts for name, tier in settings.tiers.items()}
        for page in pages(lambda: self._queue.reclaim(attempts, leases=leases), term):
            if not page.more:
                break

    def _end_removed_tiers(self, term: Term) -> None:
        rows, depths = answer(self._queue.jobs()), answer(self._queue.depths())
        # Read after the rows, so that a tier that was added meanwhile does not look removed.
        tiers = self._live.current.settings.tiers
        for row in rows:
            if row.tier not in tiers:
                self._end(row)
        for name, depth in depths.items():
            if name not in tiers and (depth.queued or depth.leased):
                self._abort(name, term)

    def _end(self, row: JobRow) -> None:
        try:
            self._engine.stop(row.name)
        except EngineError as error:  # the row stays, so that the next step tries again
            log.warning("Job %s, whose tier was removed, cannot be stopped: %s", row.name, error)
            return
        answer(self._queue.end_job(row.name, REMOVED, blame=False, attempts=1))

    def _abort(self, tier: str, term: Term) -> None:
        detail = f"the tier {tier} is no longer offered"
        for page in pages(lambda: self._queue.abort_tier(tier, "tier_removed", detail), term):
            if not page.more:
                break
