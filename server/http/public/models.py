"""The models that the tiers serve."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from server.http.public.base import PublicHandler
from server.http.public.served import served_models
from server.problems import Problem


class ModelsHandler(PublicHandler):
    """``GET /v1/models``."""

    parameters = ()

    async def get(self, *_: str) -> None:
        """Every model that a tier serves."""
        self.answer({"models": await self.models()})

    async def models(self) -> list[dict[str, Any]]:
        """One object a model."""
        services = self.services
        tiers = services.settings.tiers
        serving = {name: services.serving.of(name) for name in tiers}
        return served_models(tiers, serving, await services.models.get(), await services.measured.get())


class ModelHandler(ModelsHandler):
    """``GET /v1/models/{reference}``."""

    async def get(self, *references: str) -> None:
        """One model as in ``GET /v1/models``, and its labels. Raises ``Problem``."""
        models = await self.models()
        for model in models:
            if model["reference"] == references[0]:
                record = (await self.services.models.get()).get(model["reference"])
                return self.answer({**model, "labels": record and record.labels})
        served = [model["reference"] for model in models]
        detail = f"no tier serves {references[0][:121]!r}; the tiers serve {', '.join(served) or 'nothing yet'}"
        raise Problem(HTTPStatus.NOT_FOUND, "no_such_model", detail, models=served)
