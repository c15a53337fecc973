"""``/img-classification/{tier}``: pictures in, labels out."""

from __future__ import annotations

from http import HTTPStatus

from server.http.public.asking import AskingHandler
from server.http.public.representation import describe, ended_badly, path_of, seconds_left
from server.queue import Prediction, Status


class ClassifyHandler(AskingHandler):
    """``POST``: take pictures, then answer with their labels or with where they stand."""

    async def post(self, tier: str) -> None:
        """Have the pictures classified, wait as long as the client wants to, answer."""
        await self.ask()

    async def respond(self, prediction: Prediction) -> None:
        """200 with the results, 202 when it has not ended. Raises ``Problem`` when it ended badly."""
        resource = await describe(prediction, self.services)
        if problem := ended_badly(prediction, resource):
            raise problem
        self.set_header("Location", path_of(prediction.id))
        if prediction.status is Status.SUCCEEDED:
            return self.answer(resource)
        self.set_header("Retry-After", str(max(1, round(seconds_left(resource)))))
        return self.answer(resource, HTTPStatus.ACCEPTED)
