"""What the leader tells readers of the tiers."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from server.leader.answers import answer
from server.queue import Queue, TierView

log = logging.getLogger(__name__)


class Reports:
    """Views of tiers, put where readers on every server find them."""

    def __init__(self, queue: Queue, clock: Callable[[], float]) -> None:
        self._queue, self._clock = queue, clock
        self._told: dict[str, tuple[TierView, float]] = {}

    def tell(self, tier: str, view: TierView, every: float) -> None:
        """Store the view if it is new, or else after ``every`` seconds: so readers can see that the leader lives."""
        # A tier counts as healthy before its first view, so that only an unhealthy one is logged then.
        before, at = self._told.get(tier, (TierView(healthy=True), -math.inf))
        now = self._clock()
        if view.healthy != before.healthy:
            log.warning("tier %s is %s", tier, "well again" if view.healthy else f"unhealthy: {view.reason}")
        if view.caution != before.caution:
            log.warning("tier %s: %s", tier, view.caution or "nothing to be cautious about any more")
        if view != before or now - at >= every:
            answer(self._queue.report(tier, view))
            self._told[tier] = (view, now)
