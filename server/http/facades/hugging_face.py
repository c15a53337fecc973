"""``/hf/{tier}``: image classification as Hugging Face's inference servers offer it.

Source: https://huggingface.co/docs/inference-providers/tasks/image-classification
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from server.http.facades.base import FacadeHandler, id_in, labels_of
from server.intake import formats
from server.intake.memory import Held
from server.problems import Problem
from server.queue import Prediction
from server.settings.records import Limits

MESSAGE_CHARACTERS = 1000  # of a header


class HuggingFaceHandler(FacadeHandler):
    """``POST``: one picture as it is, or JSON with ``inputs`` and ``parameters``."""

    async def post(self, tier: str) -> None:
        """A list of labels with their scores, best first."""
        await self.ask()

    def longest(self, limits: Limits) -> int:
        """How long a body with one picture may be."""
        return super().longest(_of_one(limits))

    def reader(self, limits: Limits, held: Held) -> formats.Reader:
        """What reads one picture."""
        return super().reader(_of_one(limits), held)

    def deliver(self, prediction: Prediction) -> None:
        """The labels of the only picture."""
        (labels,) = labels_of(prediction)
        self.answer(labels)

    def error(self, problem: Problem) -> Mapping[str, Any]:
        """``error`` is the text that the client shows."""
        told = {"error": problem.body["detail"], "code": problem.body["code"], "request_id": self.request_id}
        prediction_id = id_in(problem)
        return told if prediction_id is None else {**told, "prediction": prediction_id}

    def problem_fields(self, problem: Problem) -> Mapping[str, str]:
        """Beside the others, those from which the client makes its exception."""
        message = re.sub("[^ -~]+", " ", problem.body["detail"])[:MESSAGE_CHARACTERS]
        told = {"X-Error-Code": problem.body["code"], "X-Error-Message": message}
        return {**super().problem_fields(problem), **told}


def _of_one(limits: Limits) -> Limits:
    return replace(limits, images=1)
