"""Reads pictures from a request as TensorFlow Serving takes it, and KServe's protocol of version 1.

Source: https://www.tensorflow.org/tfx/serving/api_rest and
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from server.intake.gathering import Gathering, Request
from server.intake.texts import TextReader, parameters_of
from server.problems import Problem


class InstancesReader(TextReader):
    """``{"instances": [{"b64": "<base64>"}, {"name of an input": {"b64": "<base64>"}}], "parameters": {...}}``."""

    def __init__(self, gathering: Gathering) -> None:
        super().__init__(gathering, [("instances", int, "b64"), ("instances", int, str, "b64")])

    def finish(self, query: Mapping[str, Any]) -> Request:
        """The request, once all of the body has come. Raises ``Problem`` with 400, 415 or 422."""
        body = self.body()
        instances = body.get("instances")
        if not isinstance(instances, list) or not instances:
            raise _bad('"instances" must be a list of pictures, each as {"b64": "<base64>"}', "/instances")
        numbers = [_number(index, one) for index, one in enumerate(instances)]
        return self._gathering.request(numbers, {**query, **parameters_of(body)})


def _number(index: int, instance: Any) -> int:
    """The number of an instance's picture. Raises ``Problem`` with 422 when it has none, or more than one."""
    around = [instance, *instance.values()] if isinstance(instance, dict) else []
    found = [one["b64"] for one in around if isinstance(one, dict) and isinstance(one.get("b64"), str)]
    if len(found) != 1:
        detail = f'instance {index} has {len(found)} pictures; it must have one, as {{"b64": "<base64>"}}'
        raise _bad(detail, f"/instances/{index}")
    return int(found[0])


def _bad(detail: str, pointer: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_inputs", detail, pointer=pointer)
