"""Gathers the pictures of one request while their bytes arrive."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from server.blobs import Piece
from server.intake.kinds import MAGIC, NAMED_BYTES, unsupported
from server.intake.memory import Held, too_large
from server.intake.names import NAMELESS, Name, written
from server.problems import Problem
from server.queue import FUNCTIONS, SOFTMAX
from server.settings.records import Limits

TOP_K_DEFAULT, TOP_K_MOST = 5, 100
PARAMETERS = ("top_k", "function_to_apply")
"""What a request may ask for beside its pictures. What is None, or is not given, has its default."""
# A picture of usual size stays in the pieces in which it came, without being copied, but for small pieces. A larger one
# becomes one piece, whose memory can grow in place and goes back to the system.
PIECE_BYTES, WHOLE_BYTES = 16 * 1024, 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One POST: its pictures, each as the pieces that it consists of, and how many labels each shall get.

    ``function`` makes the scores of the model's logits: one of ``FUNCTIONS``. ``names`` are what the client calls its
    pictures, as ``names.written`` writes them.
    """

    pictures: Sequence[Sequence[Piece]]
    top_k: int
    function: str = SOFTMAX
    names: str | None = None


class Gathering:
    """The pictures that have begun so far. They are the only copy of their bytes, and ``held`` counts them.

    ``strict``: what a request has beside its pictures must be known. Other services ignore what they do not know.
    """

    def __init__(self, limits: Limits, held: Held, *, strict: bool = True) -> None:
        self.strict = strict
        self.most, self._most_bytes, self._held = limits.images, limits.image_bytes, held
        self.pictures: list[list[Piece]] = []
        self._names: list[Name] = []
        self._size = 0  # of the last one

    def begin(self, name: Name = NAMELESS) -> None:
        """Begin another picture, which has this name. Raises ``Problem`` with 413 or 503."""
        if len(self.pictures) >= self.most:
            detail = f"the request has more than {self.most} pictures, which is the most that is allowed"
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_many_images", detail, limit_images=self.most)
        self.pictures.append([])
        self._size = 0
        self._names.append(NAMELESS)
        self.call(name)

    def call(self, name: Name) -> None:
        """Say what the picture that began last is called. Raises ``Problem`` with 413 or 503."""
        self._names[-1] = name
        self.count(sum(len(one) for one in name if one))

    def add(self, data: bytes) -> None:
        """Add bytes to the picture that began last. Raises ``Problem`` with 413 or 503."""
        self._size += len(data)
        if self._size > self._most_bytes:
            raise too_large(f"picture {len(self.pictures) - 1}", self._most_bytes)
        self.count(len(data))
        pieces = self.pictures[-1]
        large = self._size > WHOLE_BYTES
        if large and len(pieces) != 1:
            pieces[:] = [bytearray().join(pieces)]
        last = pieces[-1] if pieces else b""
        if isinstance(last, bytearray) and (large or len(last) < PIECE_BYTES):
            last += data
        else:
            pieces.append(data if len(data) >= PIECE_BYTES else bytearray(data))

    def count(self, size: int) -> None:
        """Count memory that is held for the request. Raises ``Problem`` with 413 or 503."""
        self._held.take(size)

    def request(self, numbers: Sequence[int], parameters: Mapping[str, Any]) -> Request:
        """The request for the pictures with these numbers, in this order. Raises ``Problem``: 415 or 422.

        One of them at least must look like a picture.
        """
        number, function = _number(parameters.get("top_k")), _function(parameters.get("function_to_apply"))
        pictures = [self.pictures[one] for one in numbers]
        # One suffices: each of the others gets an error of its own from the worker, which alone decodes them.
        if not any(MAGIC.match(_start(pieces)) for pieces in pictures):
            raise unsupported(_start(pictures[0]) if pictures else b"")
        return Request(pictures, number, function, written([self._names[one] for one in numbers]))


def check(parameters: Mapping[str, Any]) -> None:
    """Check parameters, of ``PARAMETERS``, that the body may yet replace. Raises ``Problem`` with 422."""
    _number(parameters.get("top_k"))
    _function(parameters.get("function_to_apply"))


def _start(pieces: Sequence[Piece]) -> bytes:
    return b"".join(bytes(piece[:NAMED_BYTES]) for piece in pieces[:2])  # of two pieces one is large


def _number(given: Any) -> int:
    if given is None:
        return TOP_K_DEFAULT
    if isinstance(given, float) and given.is_integer():  # JSON has one kind of numbers
        given = int(given)
    # A pattern, as int() also takes "1_0" and digits of other scripts.
    number = int(given) if re.fullmatch("[0-9]{1,3}", str(given)) else 0
    if not 1 <= number <= TOP_K_MOST:
        detail = f"top_k is {str(given)[:20]!r}; it must be a whole number from 1 to {TOP_K_MOST}"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_top_k", detail, pointer="/parameters/top_k")
    return number


def _function(given: Any) -> str:
    if given is None:
        return SOFTMAX
    if given not in FUNCTIONS:
        named = ", ".join(FUNCTIONS)
        detail = f"function_to_apply is {str(given)[:20]!r}; it must be one of {named}"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_function", detail, pointer="/parameters/function_to_apply")
    return str(given)
