"""What is told of the tiers, to whoever asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from server.access.keys import time_text
from server.http.capacity import usage_of_capacity
from server.http.crews import LiveJob
from server.http.public.served import Measures, model_of
from server.http.services import Services
from server.models import Record
from server.queue import NEVER_SEEN, Depth, TierView
from server.settings.records import Settings, Tier
from server.time_classes import quantile

JOBS = 100  # live ones of a tier that are told


@dataclass(frozen=True, slots=True)
class Seen:
    """All tiers as they were just seen."""

    depths: Mapping[str, Depth]
    views: Mapping[str, TierView]
    jobs: Mapping[str, Sequence[LiveJob]]
    records: Mapping[str, Record]
    measured: Measures

    @classmethod
    async def now(cls, services: Services) -> Seen:
        """What the services know now. Raises what the queue raises."""
        return cls(
            await services.depths(),
            await services.views.get(),
            await services.crews.get(),
            await services.models.get(),
            await services.measured.get(),
        )


async def tiers_told(settings: Settings, services: Services) -> dict[str, Any]:
    """The capacity, and one object a tier, in the order of the values file. Raises what the queue raises."""
    seen = await Seen.now(services)
    capacity = {name: asdict(usage) for name, usage in usage_of_capacity(settings, seen.views).items()}
    tiers = [await tier_told(tier, seen, services) for tier in settings.tiers.values()]
    return {"capacity": capacity or None, "tiers": tiers}


async def event_told(services: Services) -> dict[str, Any]:
    """What those are told who follow the tiers, the same to everybody. Raises what the queue raises."""
    in_force = {"settings": services.in_force, "keys": services.keys_in_force}
    return in_force | await tiers_told(services.settings, services)


async def tier_told(tier: Tier, seen: Seen, services: Services) -> dict[str, Any]:
    """A tier, the same to everybody. Raises what the queue raises."""
    depth, view = seen.depths.get(tier.name) or Depth(0, 0, None), seen.views.get(tier.name, NEVER_SEEN)
    limits, rates = tier.limits, services.activity.rates(tier.name)
    waits = sum((Counter(minute.waits) for minute in await services.lately.minutes.get(tier.name)), Counter[int]())
    return {
        "name": tier.name,
        "model": model_of(tier, services.serving.of(tier.name), seen.records, seen.measured),
        "queued": depth.queued,
        "predicting": depth.leased,
        "queue_bytes": depth.bytes,
        "oldest_at": time_text(depth.oldest),
        "workers": view.running,
        "starting": view.starting,
        "jobs": [_job(one) for one in seen.jobs.get(tier.name, ())[:JOBS]],
        "room": view.room,
        "quota": {name: asdict(usage) for name, usage in view.quota.items()},
        "lending": view.lending and asdict(view.lending),
        "reason": view.reason,
        "caution": view.caution,
        "breaker": view.breaker and {"strikes": view.breaker.strikes, "retry_at": time_text(view.breaker.retry_at)},
        "rates": asdict(rates),
        "wait_seconds": {"sample": waits.total(), "p50": wait(waits, 0.5), "p95": wait(waits, 0.95)},
        "limits": {
            "queued": limits.queue,
            "queue_bytes": limits.queue_bytes,
            "images": limits.images,
            "image_bytes": limits.image_bytes,
            "image_pixels": limits.image_pixels,
        },
        "waits": {"sync": tier.waits.sync, "queue": tier.waits.queue, "results": tier.waits.results},
        "url": f"/img-classification/{tier.name}",
    }


def wait(waits: Mapping[int, int], part: float) -> float | None:
    """The wait in seconds that ``part`` of those counted by class did not exceed; None without any."""
    milliseconds = quantile(waits, part)
    return None if milliseconds is None else round(milliseconds / 1000, 4)


def _job(job: LiveJob) -> dict[str, Any]:
    return {
        "name": job.name,
        "state": job.state,
        "stage": job.stage,
        "node": job.node or None,
        "model": job.model.partition(" ")[0] or None,
        "opened_at": time_text(job.opened_at),
        "since": time_text(job.since),
        "predictions": job.predictions,
        "reason": job.reason,
    }
