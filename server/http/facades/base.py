"""What all routes in the shape of another service have in common: a subclass has its shape, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from server.http.public.asking import AskingHandler
from server.http.public.base import PublicHandler
from server.http.public.representation import describe, ended_badly, path_of, resource, seconds_left
from server.intake import formats
from server.intake.memory import Held
from server.problems import Problem
from server.queue import FINAL, Prediction
from server.settings.records import Limits, Tier

DRAWS_MOST = 300  # a main model that shares with a canary of 95 % gets one of so many ids all but surely


class ErrorTextHandler(PublicHandler):
    """Its errors are ``{"error": text}``, as most services have them."""

    def error(self, problem: Problem) -> Mapping[str, Any]:
        """A problem as JSON, in the other service's shape."""
        return {"error": problem.body["detail"], "code": problem.body["code"], **self.of_request(problem)}

    def of_request(self, problem: Problem) -> Mapping[str, str]:
        """Members of every shape's errors: the ``request_id``, and the ``prediction`` if one was accepted."""
        prediction_id = _id_in(problem)
        named = {"request_id": self.request_id}
        return named if prediction_id is None else {**named, "prediction": prediction_id}

    def problem_document(self, problem: Problem) -> tuple[bytes, str]:
        """The problem in the other service's shape."""
        return json.dumps(self.error(problem)).encode(), "application/json"

    def main_version(self, tier: Tier, asked: str | None = None) -> str | None:
        """The version of the tier's model, None while it has none. Raises ``Problem`` if another is ``asked``."""
        main = self.services.serving.of(tier.name).main
        served = version_of(main.reference) if main else None
        if asked not in (None, served):
            detail = f"the tier {tier.name} does not serve version {asked[:80]!r}, but {served}"
            raise Problem(HTTPStatus.NOT_FOUND, "no_such_model", detail, version=served)
        return served


class FacadeHandler(ErrorTextHandler, AskingHandler):
    """A route that speaks another service's shape. It waits for the end, as those services know no other answer.

    The value after the tier's in its path, if there is one, is the version of the tier's main model. What it does not
    know of a query or beside the pictures it ignores, as those services do: their clients send more than we have.
    """

    parameters = None

    def deliver(self, prediction: Prediction) -> None:
        """Answer with a prediction that succeeded. Raises ``Problem`` when it has no place for what failed in it."""
        raise NotImplementedError

    def problem_fields(self, problem: Problem) -> Mapping[str, str]:
        """Beside the others, where an accepted prediction is read."""
        fields = super().problem_fields(problem)
        prediction_id = _id_in(problem)
        return fields if prediction_id is None else {**fields, "Location": path_of(prediction_id)}

    def most_bytes(self) -> int:
        """How long the body may be. Raises ``Problem`` also when the tier does not serve the version."""
        most = super().most_bytes()
        self.main_version(self.tier, self._version)
        return most

    def draw(self) -> tuple[str, bool]:
        """As for every route, but that the canary does not classify what is asked of a version, which is the main's."""
        drawn = super().draw()
        for _ in range(DRAWS_MOST):
            if self._version is None or not drawn[1]:
                return drawn
            drawn = super().draw()
        detail = f"version {self._version} of the model gets next to no predictions now, as the tier's canary gets them"
        raise Problem(HTTPStatus.NOT_FOUND, "no_such_model", detail, version=self._version)

    async def respond(self, prediction: Prediction) -> None:
        """What ``deliver`` answers. Raises ``Problem`` when the prediction has not ended, or has ended badly."""
        if prediction.status not in FINAL:
            raise await self._not_yet(prediction)
        if problem := ended_badly(prediction, resource(prediction)):
            raise problem
        if self._version is not None and self._version != version_of(prediction.model):
            detail = f"the tier has changed its model meanwhile: {prediction.model} has classified"
            raise Problem(HTTPStatus.CONFLICT, "model_changed", detail, prediction=resource(prediction))
        self.set_header("Location", path_of(prediction.id))
        self.deliver(prediction)

    async def _not_yet(self, prediction: Prediction) -> Problem:
        described = await describe(prediction, self.services)
        detail = (
            f"the prediction {prediction.id} has not ended within the wait of the request. It stays accepted: read it "
            f"at {path_of(prediction.id)}; the same request with the same Idempotency-Key gets its result, too"
        )
        gateway_timeout, wait = HTTPStatus.GATEWAY_TIMEOUT, seconds_left(described)
        return Problem(gateway_timeout, "not_yet", detail, retry_after=wait, prediction=described)

    @property
    def _version(self) -> str | None:
        return self.path_args[1] if len(self.path_args) > 1 else None


class OnePictureHandler(FacadeHandler):
    """A shape that has a place for one picture only."""

    def longest(self, limits: Limits) -> int:
        """How long a body with one picture may be."""
        return super().longest(_of_one(limits))

    def reader(self, limits: Limits, held: Held) -> formats.Reader:
        """What reads one picture."""
        return formats.reader(self.request.headers, _of_one(limits), held, strict=False)


def labels_of(prediction: Prediction) -> Sequence[Sequence[Mapping[str, Any]]]:
    """The labels of each picture, best first. Raises ``Problem`` with 422, the one of the first picture that failed."""
    for result in prediction.results or []:
        if "error" in result:
            code, detail = result["error"]["code"], result["error"]["detail"]
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, code, detail, prediction=resource(prediction))
    return [result["labels"] for result in prediction.results or []]


def _id_in(problem: Problem) -> str | None:
    prediction = problem.body.get("prediction")
    return None if prediction is None else prediction["id"]


def version_of(reference: str) -> str:
    """The version in NAME@VERSION."""
    return reference.partition("@")[2]


def _of_one(limits: Limits) -> Limits:
    return replace(limits, images=1)
