"""``/v2``: version 2 of the Open Inference Protocol, with the extensions for binary tensors and for classification.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md and
https://github.com/triton-inference-server/server/tree/main/docs/protocol
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from server.http.callers import Anyone
from server.http.facades.base import ErrorTextHandler, FacadeHandler, labels_of, version_of
from server.http.facades.tensors import written
from server.http.public.readiness import readiness, tier_readiness
from server.intake import formats
from server.intake.gathering import Gathering, Request
from server.intake.memory import Held
from server.intake.outputs import LABELS, SCORES, Wanted
from server.intake.tensors import LENGTH_BYTES, TensorReader
from server.problems import Problem
from server.queue import Prediction
from server.settings.records import Limits

LENGTH_OF_JSON = "Inference-Header-Content-Length"
EXTENSIONS = ["binary_tensor_data", "classification"]
INPUT = {"name": "image", "datatype": "BYTES", "shape": [-1]}
OUTPUTS = [
    {"name": LABELS, "datatype": "BYTES", "shape": [-1, -1]},
    {"name": SCORES, "datatype": "FP32", "shape": [-1, -1]},
]


class InferHandler(FacadeHandler):
    """``POST /v2/models/{tier}/infer``: a tensor whose elements are pictures."""

    _wanted: Wanted
    _classes: Sequence[str] = ()

    async def post(self, *_: str) -> None:
        """The wanted outputs, for each picture and class."""
        await self.ask()

    def longest(self, limits: Limits) -> int:
        """How long a body may be: JSON takes more than binary elements with their lengths."""
        return formats.most_text_bytes(limits) + limits.images * LENGTH_BYTES

    def reader(self, limits: Limits, held: Held) -> TensorReader:
        """What reads the tensor. Raises ``Problem`` with 400."""
        given = self.request.headers.get(LENGTH_OF_JSON)
        if given is not None and not re.fullmatch("[0-9]{1,10}", given):
            detail = f"{LENGTH_OF_JSON} is {given[:40]!r}, not a number"
            raise Problem(HTTPStatus.BAD_REQUEST, "bad_length", detail)
        return TensorReader(Gathering(limits, held), None if given is None else int(given))

    def take_pictures(self, query: Mapping[str, Any]) -> tuple[Request, Held]:
        """What has come; what is wanted is kept, without the pictures."""
        reader = self._reader
        taken = super().take_pictures(query)
        assert isinstance(reader, TensorReader)
        self._wanted = reader.wanted
        return taken

    async def respond(self, prediction: Prediction) -> None:
        """The outputs. Raises ``Problem``."""
        if self._wanted.most_classes is not None:
            record = (await self.services.models.get()).get(prediction.model)
            self._classes = record.labels if record else ()
        await super().respond(prediction)

    def deliver(self, prediction: Prediction) -> None:
        """The outputs of all pictures. Raises ``Problem`` when one of them failed, which no tensor can tell."""
        outputs, tail = written(labels_of(prediction), self._wanted.outputs, self._classes)
        head = {
            **({} if self._wanted.id is None else {"id": self._wanted.id}),
            "model_name": self.tier.name,
            "model_version": version_of(prediction.model),
            "outputs": outputs,
        }
        if not any(one.binary for one in self._wanted.outputs):
            return self.answer(head)
        text = json.dumps(head, separators=(",", ":")).encode()
        self.set_header(LENGTH_OF_JSON, str(len(text)))
        return self.answer_bytes(text + tail, "application/octet-stream")


class ServerHandler(ErrorTextHandler):
    """``GET /v2``."""

    def get(self) -> None:
        """The server's name and version, and what it has of the protocol's extensions."""
        self.answer({"name": "tierserve", "version": version("tierserve"), "extensions": EXTENSIONS})


class LiveHandler(ErrorTextHandler):
    """``GET /v2/health/live``: the event loop runs."""

    callers = Anyone()

    def get(self) -> None:
        """Always 200 while it can answer at all."""
        self.answer({"live": True})


class ServerReadyHandler(ErrorTextHandler):
    """``GET /v2/health/ready``: whether the server can accept predictions, as ``/readyz`` says."""

    callers = Anyone()

    async def get(self) -> None:
        """503 when it cannot."""
        status, known = await readiness(self.services)
        self.answer({"ready": status is HTTPStatus.OK, "status": known["status"]}, status)


class ModelMetadataHandler(ErrorTextHandler):
    """``GET /v2/models/{tier}``, also with a version."""

    def get(self, tier: str, *versions: str) -> None:
        """The version of the tier's model, its input and its outputs. Raises ``Problem`` with 404."""
        found = self.tier_called(tier)
        served = self.main_version(found, *versions)
        told = {"name": tier, "versions": [served] if served else [], "platform": found.model.runtime}
        self.answer({**told, "inputs": [INPUT], "outputs": OUTPUTS})


class ModelReadyHandler(ErrorTextHandler):
    """``GET /v2/models/{tier}/ready``, also with a version."""

    async def get(self, tier: str, *versions: str) -> None:
        """503 when the tier is not ready. Raises ``Problem`` with 404."""
        self.main_version(self.tier_called(tier), *versions)
        status, reason = await tier_readiness(self.services, tier)
        self.answer({"name": tier, "ready": status is HTTPStatus.OK, "reason": reason}, status)
