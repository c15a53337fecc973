"""Reads pictures from a request of the Open Inference Protocol, version 2, and of its extension for binary tensors.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from server.intake.gathering import Gathering, Request
from server.intake.outputs import Wanted, wanted
from server.intake.texts import TextReader, parameters_of
from server.problems import Problem

LENGTH_BYTES = 4  # before each element of a binary tensor
DIMENSIONS_MOST, COUNT_MOST = 8, 2**32


@dataclass(frozen=True, slots=True)
class Head:
    """What the JSON of a request says: its one tensor, its parameters, and what is wanted."""

    elements: int
    """By the tensor's shape."""
    numbers: Sequence[int]
    """Of the pictures in the JSON."""
    binary_size: int | None
    """How many bytes follow the JSON; None if the pictures are in it."""
    parameters: Mapping[str, Any]
    wanted: Wanted

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Head:
        """Read the JSON of a request. Raises ``Problem`` with 422."""
        inputs = body.get("inputs")
        if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
            raise bad_tensor('"inputs" must be a list of one tensor, whose elements are pictures', "/inputs")
        tensor = inputs[0]
        if not isinstance(tensor.get("name"), str):
            raise bad_tensor("the tensor must have a name, be it any", "/inputs/0/name")
        if tensor.get("datatype") != "BYTES":
            detail = 'the tensor must have the datatype "BYTES": each element is a picture as a file has it'
            raise bad_tensor(detail, "/inputs/0/datatype")
        parameters = {} if tensor.get("parameters") is None else tensor["parameters"]
        if not isinstance(parameters, dict):
            raise bad_tensor('"parameters" must be an object', "/inputs/0/parameters")
        size = parameters.get("binary_data_size")
        if size is not None and (not _is_count(size) or "data" in tensor):
            detail = '"binary_data_size" must be the number of bytes that follow the JSON, without "data" beside it'
            raise bad_tensor(detail, "/inputs/0/parameters/binary_data_size")
        asked = parameters_of(body, also=["binary_data_output"])
        numbers = [] if size is not None else list(_numbers(tensor.get("data")))
        return cls(
            _elements(tensor.get("shape")), numbers, None if size is None else int(size), asked, wanted(body, asked)
        )


class TensorReader:
    """A JSON object, and behind it the elements of its tensor if they are not in it.

    ``length`` is the length of the JSON in bytes, as the header Inference-Header-Content-Length says; None if the whole
    body is JSON. In JSON the pictures are in base64, behind it they are as files have them.
    """

    def __init__(self, gathering: Gathering, length: int | None) -> None:
        self._gathering, self._length, self._left = gathering, length, length
        self._text = TextReader(gathering, [("inputs", int, "data", int), ("inputs", int, "data", int, int)])
        self._head: Head | None = None
        self._elements = Elements(gathering, 0)

    @property
    def wanted(self) -> Wanted:
        """What is wanted as the answer, once ``finish`` has been called."""
        assert self._head is not None
        return self._head.wanted

    def feed(self, chunk: bytes) -> None:
        """Take the next part of the body. Raises ``Problem`` with 400, 413, 422 or 503."""
        if self._left is None:
            return self._text.feed(chunk)
        text, rest = chunk[: self._left], chunk[self._left :]
        self._text.feed(text)
        self._left -= len(text)
        if not self._left and self._head is None:
            self._end_text()
        if rest:
            self._elements.feed(rest)
        return None

    def finish(self, query: Mapping[str, Any]) -> Request:
        """The request, once all of the body has come. Raises ``Problem`` with 400, 415 or 422."""
        if self._left:
            detail = f"the body ends before the {self._length} bytes of JSON that Inference-Header-Content-Length names"
            raise bad_tensor(detail)
        head = self._head or self._end_text()
        self._elements.finish()
        numbers = head.numbers if head.binary_size is None else range(len(self._gathering.pictures))
        if not numbers or len(numbers) != head.elements:
            detail = f"the tensor has {len(numbers)} pictures, and a shape for {head.elements}"
            raise bad_tensor(detail, "/inputs/0/shape")
        parameters = {**query, **head.parameters}
        if parameters.get("top_k") is None:
            parameters["top_k"] = head.wanted.most_classes
        return self._gathering.request(numbers, parameters)

    def _end_text(self) -> Head:
        head = self._head = Head.of(self._text.body())
        if head.binary_size is not None:
            if self._length is None:
                raise bad_tensor("the header Inference-Header-Content-Length is missing, which tells where JSON ends")
            self._elements = Elements(self._gathering, head.binary_size)
        return head


class Elements:
    """The elements of a tensor of type BYTES: each has its length before it, as four bytes, the least one first."""

    def __init__(self, gathering: Gathering, size: int) -> None:
        """``size`` is how many bytes they and their lengths have together."""
        self._gathering, self._size = gathering, size
        self._came = self._left = 0  # of all, and of the element that comes now
        self._length = b""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes. Raises ``Problem`` with 413, 422 or 503."""
        if self._came + len(chunk) > self._size:
            raise bad_tensor(f"more bytes follow the JSON than the {self._size} that its tensor announces")
        at = 0
        while at < len(chunk):
            if self._left:
                part = chunk[at : at + self._left]
                self._gathering.add(part)
                self._left -= len(part)
            else:
                part = chunk[at : at + LENGTH_BYTES - len(self._length)]
                self._length += part
                if len(self._length) == LENGTH_BYTES:
                    self._begin(int.from_bytes(self._length, "little"), self._size - self._came - at - len(part))
            at += len(part)
        self._came += len(chunk)

    def finish(self) -> None:
        """All has come. Raises ``Problem`` with 422 when something is missing."""
        if self._came < self._size or self._length:
            detail = f"{self._came} bytes follow the JSON, and its tensor announces {self._size}"
            raise bad_tensor(detail if self._came < self._size else "the last element has no length of four bytes")

    def _begin(self, length: int, rest: int) -> None:
        self._length = b""
        self._gathering.begin()
        if length > rest:
            index = len(self._gathering.pictures) - 1
            raise bad_tensor(f"picture {index} announces {length} bytes, and {rest} are left of its tensor")
        self._left = length


def bad_tensor(detail: str, pointer: str | None = None) -> Problem:
    """The problem of a tensor that is not as it should be; ``pointer`` leads to what is wrong in the JSON."""
    where: dict[str, Any] = {} if pointer is None else {"pointer": pointer}
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_inputs", detail, **where)


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0 and 0 <= value < COUNT_MOST


def _elements(shape: Any) -> int:
    if not isinstance(shape, list) or not 1 <= len(shape) <= DIMENSIONS_MOST or not all(map(_is_count, shape)):
        raise bad_tensor('"shape" must be a list of whole numbers, as [1] for one picture', "/inputs/0/shape")
    return math.prod(map(int, shape))  # JSON has one kind of numbers


def _numbers(data: Any) -> Iterator[int]:
    """The numbers of the pictures, which may be in lists of their own: the elements of a tensor of two dimensions."""
    if not isinstance(data, list):
        raise bad_tensor('the tensor has no "data", which must be a list of pictures in base64', "/inputs/0/data")
    for index, item in enumerate(data):
        for one in item if isinstance(item, list) else [item]:
            if not isinstance(one, str):
                raise bad_tensor("an element is no picture in base64", f"/inputs/0/data/{index}")
            yield int(one)
