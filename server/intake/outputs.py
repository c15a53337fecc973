"""Reads from a request of the Open Inference Protocol which outputs are wanted, and how they shall be written.

Source: that protocol, and Triton's extensions for binary tensors and for classification
(https://github.com/triton-inference-server/server/tree/main/docs/protocol).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from server.intake.gathering import TOP_K_MOST
from server.problems import Problem

LABELS, SCORES = "labels", "scores"
"""The two outputs: the names of the classes as BYTES, and their scores as FP32; each of shape [pictures, classes]."""


@dataclass(frozen=True, slots=True)
class Output:
    """One output that is wanted, behind the JSON if it is ``binary``.

    ``classes``: as Triton's texts ``score:index:label`` for at most so many classes; None: as it is.
    """

    name: str
    binary: bool
    classes: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the answer shall contain: the ``id`` that the request gives itself, if any, and these outputs."""

    id: str | None
    outputs: Sequence[Output]

    @property
    def most_classes(self) -> int | None:
        """How many classes the outputs for classification need; None when there is none."""
        return max((one.classes for one in self.outputs if one.classes is not None), default=None)


def wanted(body: Mapping[str, Any], parameters: Mapping[str, Any]) -> Wanted:
    """Read what a request wants that has these parameters. Raises ``Problem`` with 422."""
    given_id = body.get("id")
    if given_id is not None and not isinstance(given_id, str):
        raise _bad('"id" must be a string', "/id")
    binary = _flag(parameters, "binary_data_output", False, "/parameters")
    asked = body.get("outputs")
    if asked is None or asked == []:
        return Wanted(given_id, [Output(LABELS, binary), Output(SCORES, binary)])
    if not isinstance(asked, list) or len(asked) > 2:
        raise _bad(f'"outputs" must be a list; the outputs are "{LABELS}" and "{SCORES}"', "/outputs")
    outputs = [_output(one, binary, f"/outputs/{index}") for index, one in enumerate(asked)]
    if len({one.name for one in outputs}) < len(outputs):
        raise _bad("an output is named twice", "/outputs")
    return Wanted(given_id, outputs)


def _output(asked: Any, binary: bool, at: str) -> Output:
    name = asked.get("name") if isinstance(asked, dict) else None
    if name not in (LABELS, SCORES):
        raise _bad(f'there is no such output; the outputs are "{LABELS}" and "{SCORES}"', at)
    parameters = {} if asked.get("parameters") is None else asked["parameters"]
    if not isinstance(parameters, dict) or parameters.keys() - {"binary_data", "classification"}:
        raise _bad('an output has the parameters "binary_data" and "classification", and no others', f"{at}/parameters")
    classes = parameters.get("classification")
    if isinstance(classes, float) and classes.is_integer():  # JSON has one kind of numbers
        classes = int(classes)
    if classes is not None and (name != SCORES or type(classes) is not int or not 1 <= classes <= TOP_K_MOST):
        detail = f'"classification" is for "{SCORES}" only, and must be a number from 1 to {TOP_K_MOST}'
        raise _bad(detail, f"{at}/parameters/classification")
    return Output(name, _flag(parameters, "binary_data", binary, f"{at}/parameters"), classes)


def _flag(parameters: Mapping[str, Any], name: str, default: bool, at: str) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise _bad(f'"{name}" must be true or false', f"{at}/{name}")
    return value


def _bad(detail: str, pointer: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_parameters", detail, pointer=pointer)
