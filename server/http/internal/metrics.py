"""What Prometheus scrapes. On the internal port only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import asdict

from server.http.base import BaseHandler
from server.http.callers import Anyone
from server.http.capacity import usage_of_capacity
from server.metrics import CONTENT_TYPE, TierFigures
from server.queue import NEVER_SEEN, Depth, QueueError, TierView
from server.settings.records import Tier

log = logging.getLogger(__name__)


class MetricsHandler(BaseHandler):
    """``GET /metrics``."""

    callers = Anyone()

    async def get(self) -> None:
        """Answer with what this process has counted, even when the queue cannot be read."""
        services = self.services
        try:
            views = await services.views.get()
            tiers = await self._tiers(views)
            usage = usage_of_capacity(services.settings, views)
        except QueueError as error:
            log.warning("the metrics lack the tiers' figures: %s", error)
            tiers, usage = None, {}
        self.set_header("Content-Type", CONTENT_TYPE)
        storage_check, in_force = services.storage_check, not services.live.problem
        accepting = storage_check.obstacle is None
        models = services.measures.figures(services.settings.tiers)
        body = services.metrics.exposition(
            tiers,
            {name: (room.free, room.reserve) for name, room in storage_check.rooms.items()},
            models,
            {name: (of.hard, of.used) for name, of in usage.items()},
            in_force=in_force,
            accepting=accepting,
            streams=services.streams.count,
        )
        self.finish(body)

    async def _tiers(self, views: Mapping[str, TierView]) -> dict[str, TierFigures]:
        services, tiers = self.services, self.services.settings.tiers
        depths = await services.depths()
        strikes = await asyncio.gather(*(services.strikes.get(name) for name in tiers))
        now = services.clock()
        return {
            name: _figures(tier, depths.get(name) or Depth(0, 0, None), views.get(name, NEVER_SEEN), struck.count, now)
            for (name, tier), struck in zip(tiers.items(), strikes, strict=True)
        }


def _figures(tier: Tier, depth: Depth, view: TierView, strikes: int, now: float) -> TierFigures:
    return TierFigures(
        queued=depth.queued,
        leased=depth.leased,
        queue_bytes=depth.bytes,
        limit_bytes=tier.limits.queue_bytes,
        oldest_wait=max(0.0, now - depth.oldest) if depth.oldest is not None else 0.0,
        running=view.running,
        starting=view.starting,
        room=view.room,
        quota={name: (usage.hard, usage.used) for name, usage in view.quota.items()},
        healthy=view.healthy,
        strikes=strikes,
        report_age=max(0.0, now - view.seen_at) if view.seen_at is not None else None,
        lending=asdict(view.lending) if view.lending else {},
    )
