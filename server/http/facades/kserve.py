"""``/v1/models/{tier}:predict``: as TensorFlow Serving has it, and version 1 of KServe's protocol.

Source: https://www.tensorflow.org/tfx/serving/api_rest and
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from server.http.facades.base import FacadeHandler
from server.http.public.models import ModelHandler
from server.http.public.readiness import tier_readiness
from server.intake import formats
from server.intake.gathering import Gathering
from server.intake.instances import InstancesReader
from server.intake.memory import Held
from server.problems import Problem
from server.queue import Prediction
from server.settings.records import Limits


class PredictHandler(FacadeHandler):
    """``POST``: JSON with ``instances``, each of which is a picture."""

    async def post(self, tier: str) -> None:
        """``predictions``, one for each instance."""
        await self.ask()

    def longest(self, limits: Limits) -> int:
        """How long a body of JSON may be, whatever its type says."""
        return formats.most_text_bytes(limits)

    def reader(self, limits: Limits, held: Held) -> formats.Reader:
        """What reads the instances."""
        return InstancesReader(Gathering(limits, held))

    def deliver(self, prediction: Prediction) -> None:
        """The labels and the scores of each picture, best first, or its error."""
        self.answer({"predictions": [_prediction(result) for result in prediction.results or []]})


class ModelOrTierHandler(ModelHandler):
    """``GET /v1/models/{reference}``: where no model has this name, and a tier has it, whether the tier is ready."""

    async def get(self, *references: str) -> None:
        """One model; or ``name`` and ``ready``, with 503 when the tier is not. Raises ``Problem``."""
        try:
            await super().get(*references)
        except Problem as problem:
            if problem.status is not HTTPStatus.NOT_FOUND or references[0] not in self.services.settings.tiers:
                raise
            status, _ = await tier_readiness(self.services, references[0])
            self.answer({"name": references[0], "ready": status is HTTPStatus.OK}, status)


def _prediction(result: Mapping[str, Any]) -> dict[str, Any]:
    labels = result.get("labels", [])
    told = {"labels": [one["label"] for one in labels], "scores": [one["score"] for one in labels]}
    return {**told, "error": result["error"]} if "error" in result else told
