"""``/hf/{tier}``: image classification as Hugging Face's inference servers offer it.

Source: https://huggingface.co/docs/inference-providers/tasks/image-classification
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from server.http.facades.base import OnePictureHandler, labels_of
from server.problems import Problem
from server.queue import Prediction

MESSAGE_CHARACTERS = 1000  # of a header


class HuggingFaceHandler(OnePictureHandler):
    """``POST``: one picture as it is, or JSON with ``inputs`` and ``parameters``."""

    async def post(self, tier: str) -> None:
        """A list of labels with their scores, best first."""
        await self.ask()

    def deliver(self, prediction: Prediction) -> None:
        """The labels of the only picture."""
        (labels,) = labels_of(prediction)
        self.answer(labels)

    def problem_fields(self, problem: Problem) -> Mapping[str, str]:
        """Beside the others, those from which the client makes its exception."""
        message = re.sub("[^ -~]+", " ", problem.body["detail"])[:MESSAGE_CHARACTERS]
        told = {"X-Error-Code": problem.body["code"], "X-Error-Message": message}
        return {**super().problem_fields(problem), **told}
