"""``/predictions/{tier}`` and ``/ping``: the inference API of TorchServe with its ``image_classifier``.

Source: https://pytorch.org/serve/inference_api.html
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from server.http.base import BaseHandler
from server.http.callers import Anyone
from server.http.facades.base import OnePictureHandler, labels_of
from server.http.public.readiness import readiness
from server.problems import Problem
from server.queue import Prediction

# The classes of TorchServe's own errors; what else is wrong with a request is a BadRequestException there.
TYPES = {
    HTTPStatus.NOT_FOUND: "ModelNotFoundException",
    HTTPStatus.METHOD_NOT_ALLOWED: "MethodNotAllowedException",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalServerException",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailableException",
    HTTPStatus.GATEWAY_TIMEOUT: "InternalServerException",
}


class TorchServeHandler(OnePictureHandler):
    """``POST`` and ``PUT``: one picture, as it is or in a form."""

    async def post(self, *_: str) -> None:
        """An object with the score of each label, best first."""
        await self.ask()

    put = post

    def deliver(self, prediction: Prediction) -> None:
        """The labels of the only picture. Of several classes with the same name the best counts."""
        (labels,) = labels_of(prediction)
        scores: dict[str, float] = {}
        for one in labels:
            scores.setdefault(one["label"], one["score"])
        self.answer(scores)

    def error(self, problem: Problem) -> Mapping[str, Any]:
        """``type`` is the name of a class of TorchServe, ``problem`` is our code."""
        return {
            "code": int(problem.status),
            "type": TYPES.get(problem.status, "BadRequestException"),
            "message": problem.body["detail"],
            "problem": problem.body["code"],
            **self.of_request(problem),
        }


class PingHandler(BaseHandler):
    """``GET /ping``: whether the server can accept predictions, as ``/readyz`` says more fully."""

    callers = Anyone()

    async def get(self) -> None:
        """``Healthy`` with 200, or ``Unhealthy`` with 503."""
        status, _ = await readiness(self.services)
        self.answer({"status": "Healthy" if status == HTTPStatus.OK else "Unhealthy"}, status)
