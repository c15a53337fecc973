"""Reads pictures from JSON while it arrives, and never holds their base64."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any

from server.intake.base64_text import Base64Text
from server.intake.gathering import Gathering, Request
from server.intake.memory import too_large
from server.problems import Problem, json_object

REST_BYTES = 64 * 1024  # of all that is no picture
DEEPEST = 16
MARKS_MOST = 5000  # each costs the event loop a microsecond; a hundred pictures need 400
COUNTED_BYTES = 4 * 1024
MARK = re.compile(rb'["{}\[\]:,]')


class TextReader:
    """``{"inputs": "<base64>" or a list of them, "parameters": {...}}``.

    The pictures, which are the strings at ``inputs``, are decoded as they arrive. In the rest of the text each of them
    is replaced by its number, and this rest is parsed at the end.
    """

    def __init__(self, gathering: Gathering) -> None:
        self._gathering = gathering
        self._rest = bytearray()
        self._counted = self._marks = 0
        self._open = bytearray()  # the brackets that are open
        self._key: Any = None  # of the outermost object, whose value comes now
        self._string: int | None = None  # where in the rest the string begins that has not ended yet
        self._escaped = False
        self._last = b""  # the string that ended last, if it may be a key
        self._picture: Base64Text | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next part of the body. Raises ``Problem`` with 400, 413, 422 or 503."""
        at = 0
        while at < len(chunk):
            if self._picture is not None:
                at = self._in_picture(self._picture, chunk, at)
            elif self._string is not None:
                at = self._in_string(self._string, chunk, at)
            else:
                at = self._outside(chunk, at)

    def finish(self, top_k: str | None) -> Request:
        """The request, once all of the body has come. Raises ``Problem`` with 400, 415 or 422."""
        asked = json_object(bytes(self._rest))
        inputs = asked.get("inputs")
        given = inputs if isinstance(inputs, list) else [inputs]
        numbers = [int(number) for number in given if isinstance(number, str)]
        if not numbers or len(numbers) < len(given):
            detail = '"inputs" must be a picture in base64 or a data URL, or a list of them'
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_inputs", detail, pointer="/inputs")
        parameters = {} if asked.get("parameters") is None else asked["parameters"]
        if not isinstance(parameters, dict) or parameters.keys() - {"top_k"}:
            detail = '"parameters" must be an object; the only parameter is "top_k"'
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_parameters", detail, pointer="/parameters")
        pictures = [self._gathering.pictures[number] for number in numbers]
        return self._gathering.request(pictures, parameters.get("top_k", top_k))

    def _outside(self, chunk: bytes, at: int) -> int:
        found = MARK.search(chunk, at)
        end = found.end() if found else len(chunk)
        self._keep(chunk[at:end])
        if not found:
            return end
        self._count()
        mark = found[0]
        if mark == b'"':
            self._begin_string()
        elif mark in (b"{", b"["):
            if len(self._open) == DEEPEST:
                raise _bad_json(f"it is nested deeper than {DEEPEST}", limit_depth=DEEPEST)
            self._open += mark
        elif mark in (b"}", b"]"):
            del self._open[-1:]
        elif self._open == b"{" and mark == b":":
            self._key = _text(self._last)
        elif self._open == b"{" and mark == b",":
            self._key = None
        return end

    def _begin_string(self) -> None:
        if self._key == "inputs" and (self._open == b"{" or self._open == b"{["):
            self._gathering.begin()
            self._picture = Base64Text(self._gathering.add)
        else:
            self._string = len(self._rest)

    def _in_string(self, start: int, chunk: bytes, at: int) -> int:
        end = chunk.find(b'"', at)
        text = chunk[at : end if end >= 0 else len(chunk)]
        slashes = len(text) - len(text.rstrip(b"\\"))
        escaped = (slashes + (self._escaped and slashes == len(text))) % 2 == 1
        self._escaped = escaped and end < 0
        if end < 0:
            self._keep(text)
            return len(chunk)
        self._keep(text + b'"')
        self._count()
        if not escaped:
            self._last = bytes(self._rest[start - 1 :]) if self._open == b"{" else b""
            self._string = None
        return end + 1

    def _in_picture(self, picture: Base64Text, chunk: bytes, at: int) -> int:
        # A quote that is escaped ends it too: base64 contains none, so it is refused either way.
        end = chunk.find(b'"', at)
        try:
            picture.feed(chunk[at : end if end >= 0 else len(chunk)])
            if end >= 0:
                picture.finish()
        except ValueError as error:
            index = len(self._gathering.pictures) - 1
            detail = f"picture {index} is not base64: {error}"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_base64", detail, pointer=f"/inputs/{index}") from error
        if end < 0:
            return len(chunk)
        self._picture = None
        self._keep(b'%d"' % (len(self._gathering.pictures) - 1))
        return end + 1

    def _keep(self, data: bytes) -> None:
        self._rest += data
        if len(self._rest) > REST_BYTES:
            raise too_large("the JSON around the pictures", REST_BYTES)
        while len(self._rest) > self._counted + COUNTED_BYTES:
            self._gathering.count(COUNTED_BYTES)
            self._counted += COUNTED_BYTES

    def _count(self) -> None:
        self._marks += 1
        if self._marks > MARKS_MOST:
            detail = f"it has more than {MARKS_MOST} brackets, colons, commas and quotes"
            raise _bad_json(detail, limit_marks=MARKS_MOST)


def _text(string: bytes) -> Any:
    try:
        return json.loads(string.decode())
    except ValueError as error:
        raise _bad_json(str(error)) from error


def _bad_json(why: str, **numbers: int) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "bad_json", f"the body cannot be read as JSON: {why}", **numbers)
