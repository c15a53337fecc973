"""The state of the tiers, for clients and for operators."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from server.engines.base import EngineError
from server.http.public.base import PublicHandler
from server.http.public.told import Seen, tier_told, tiers_told
from server.problems import Problem
from server.settings.records import Tier


class TiersHandler(PublicHandler):
    """``GET /v1/tiers``."""

    parameters = ()

    async def get(self, *_: str) -> None:
        """The capacity, and every tier with its quota, its room, what runs and what waits."""
        self.answer(await self.tiers())

    async def tiers(self) -> dict[str, Any]:
        """The capacity, and one object a tier, in the order of the values file."""
        settings = self.services.settings
        told = await tiers_told(settings, self.services)
        tiers = [await self.to_caller(settings.tiers[one["name"]], one) for one in told["tiers"]]
        return {**told, "tiers": tiers}

    async def to_caller(self, tier: Tier, told: dict[str, Any]) -> dict[str, Any]:
        """What is told of a tier, and the caller's own limits in it."""
        return {**told, "access": await self.services.allowances.describe(self.caller, tier)}


class TierHandler(TiersHandler):
    """``GET /v1/tiers/{tier}``."""

    async def get(self, *names: str) -> None:
        """One tier as in ``GET /v1/tiers``, and the labels of its model. Raises ``Problem``."""
        tier = self.tier_called(names[0])
        seen = await Seen.now(self.services)
        described = await self.to_caller(tier, await tier_told(tier, seen, self.services))
        record = seen.records.get(described["model"]["reference"])
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
                **await self.tiers(),
                "pods": [asdict(pod) for pod in pods],
            }
        )
