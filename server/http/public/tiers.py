"""The state of the tiers, for clients and for operators."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from server.access.keys import time_text
from server.engines.base import EngineError
from server.http.crews import LiveJob
from server.http.public.base import PublicHandler
from server.http.public.served import model_of
from server.problems import Problem
from server.queue import NEVER_SEEN
from server.settings.records import Tier

JOBS = 100  # live ones of a tier that are told


class TiersHandler(PublicHandler):
    """``GET /v1/tiers``."""

    async def get(self, *_: str) -> None:
        """Every tier with its quota, its room, what runs and what waits."""
        self.answer({"tiers": await self.tiers()})

    async def tiers(self) -> list[dict[str, Any]]:
        """One object a tier, in the order of the values file."""
        return [await self._describe(tier) for tier in self.services.settings.tiers.values()]

    async def _describe(self, tier: Tier) -> dict[str, Any]:
        services = self.services
        depth = (await services.depths()).get(tier.name)
        view = (await services.views.get()).get(tier.name, NEVER_SEEN)
        pace = await services.paces.get(tier.name)
        return {
            "name": tier.name,
            "model": model_of(
                tier, services.serving.of(tier.name), await services.models.get(), await services.measured.get()
            ),
            "queued": depth.queued if depth else 0,
            "predicting": depth.leased if depth else 0,
            "queue_bytes": depth.bytes if depth else 0,
            "oldest_at": time_text(depth.oldest if depth else None),
            "workers": view.running,
            "starting": view.starting,
            "jobs": [_job(one) for one in (await services.crews.get()).get(tier.name, ())[:JOBS]],
            "room": view.room,
            "quota": {name: asdict(usage) for name, usage in view.quota.items()},
            "reason": view.reason,
            "caution": view.caution,
            "breaker": view.breaker and {"strikes": view.breaker.strikes, "retry_at": time_text(view.breaker.retry_at)},
            "wait_seconds": {"sample": pace.sample, "p50": pace.wait_p50, "p95": pace.wait_p95},
            "limits": {
                "queued": tier.limits.queue,
                "queue_bytes": tier.limits.queue_bytes,
                "images": tier.limits.images,
                "image_bytes": tier.limits.image_bytes,
                "image_pixels": tier.limits.image_pixels,
            },
            "access": await services.allowances.describe(self.caller, tier),
            "waits": {"sync": tier.waits.sync, "queue": tier.waits.queue, "results": tier.waits.results},
            "url": f"/img-classification/{tier.name}",
        }


def _job(job: LiveJob) -> dict[str, Any]:
    return {
        "name": job.name,
        "state": job.state,
        "stage": None,
        "node": None,
        "model": job.model.partition(" ")[0] or None,
        "opened_at": time_text(job.opened_at),
        "since": time_text(job.since),
        "predictions": job.predictions,
        "reason": job.reason,
    }


class TierHandler(TiersHandler):
    """``GET /v1/tiers/{tier}``."""

    async def get(self, *names: str) -> None:
        """One tier as in ``GET /v1/tiers``, and the labels of its model. Raises ``Problem``."""
        tier = self.tier_called(names[0])
        described = await self._describe(tier)
        record = (await self.services.models.get()).get(described["model"]["reference"])
        described["model"]["labels"] = record and record.labels
        self.answer(described)


class ConfigHandler(TiersHandler):
    """``GET /config``: the tiers, and every pod of theirs."""

    async def get(self, *_: str) -> None:
        """Pods as their engine reported them within the last second; 503 while it does not answer."""
        services = self.services
        try:
            pods = await services.pods.get()
        except EngineError as error:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "engine_unavailable", str(error), retry_after=5) from error
        self.answer(
            {
                "settings": services.in_force,
                "keys": services.keys_in_force,
                "tiers": await self.tiers(),
                "pods": [asdict(pod) for pod in pods],
            }
        )
