"""Reads pictures from JSON while it arrives, and never holds their base64."""

from __future__ import annotations

import json
import re
import sys
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from server.intake.base64_text import Base64String
from server.intake.gathering import PARAMETERS, Gathering, Request
from server.intake.kinds import MAGIC
from server.intake.memory import too_large
from server.intake.names import Name
from server.problems import Problem, json_object, unknown

REST_BYTES = 64 * 1024  # of all that is no picture
DEEPEST = 16
MARKS_MOST = 5000  # each costs the event loop a microsecond; a hundred pictures need 400
COUNTED_BYTES = 4 * 1024
MARK = re.compile(rb'["{}\[\]:,]')
MEMBERS = ("inputs", "parameters")
STEP_SHOWN = 80  # characters of a key, in a pointer

Place = tuple[str | type[str] | type[int], ...]
"""Where pictures stand: the keys and indexes that lead there, or ``str`` for any key and ``int`` for any index."""


class TextReader:
    """A JSON object in which pictures stand at some places, in base64 or as data URLs.

    The pictures are decoded as they arrive. In the rest of the text each of them is replaced by its number, and this
    rest is parsed at the end. A subclass knows what else is asked for in it.
    """

    def __init__(self, gathering: Gathering, places: Sequence[Place]) -> None:
        self._gathering, self._places, self._depth = gathering, places, max(map(len, places))
        self._rest = bytearray()
        self._counted = self._marks = 0
        # Of each bracket that is open, the key or the index of what comes now, or None where a key comes.
        self._path: list[str | int | None] = []
        self._is_place = False  # of a picture, which comes now if a string does
        self._string: int | None = None  # where in the rest the string begins that has not ended yet
        self._escaped = False
        self._last = b""  # the string that ended last, if it may be a key
        self._picture: Base64String | None = None
        self._before = 0  # bytes of the parts that have been read
        self._shifts = [(0, 0)]  # from where in the rest on it stood so many bytes further back

    def feed(self, chunk: bytes) -> None:
        """Take the next part of the body. Raises ``Problem`` with 400, 413, 422 or 503."""
        at = 0
        if not self._rest and MAGIC.match(chunk):
            raise _bad_json("it is a picture, and must be in base64 in JSON here")
        while at < len(chunk):
            if self._picture is not None:
                at = self._in_picture(self._picture, chunk, at)
            elif self._string is not None:
                at = self._in_string(self._string, chunk, at)
            else:
                at = self._outside(chunk, at)
        self._before += len(chunk)

    def body(self) -> Mapping[str, Any]:
        """All that has come, with the number of a picture, as text, in the place of each. Raises ``Problem``: 400."""
        return json_object(self._rest, self._place)

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
            if len(self._path) == DEEPEST:
                raise _bad_json(f"it is nested deeper than {DEEPEST}", limit_depth=DEEPEST)
            self._path.append(None if mark == b"{" else 0)
            self._look()
        elif mark in (b"}", b"]"):
            del self._path[-1:]
            self._look()
        elif self._path:
            self._go_on(self._path[-1], mark)
        return end

    def _go_on(self, step: str | int | None, mark: bytes) -> None:
        """Go on to what a comma or a colon announces."""
        if mark == b",":
            self._path[-1] = step + 1 if isinstance(step, int) else None
        elif step is None:
            self._path[-1] = _text(self._last) if len(self._path) <= self._depth else ""  # no picture is that deep
            self._look()

    def _look(self) -> None:
        """Find out whether a string that comes now is a picture. All items of a list are alike."""
        self._is_place = any(_leads_to(place, self._path) for place in self._places)

    def _begin_string(self) -> None:
        if self._is_place and self._path[-1] is not None:
            self._gathering.begin()
            self._picture = Base64String(self._gathering.add)
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
            is_key = 0 < len(self._path) <= self._depth and self._path[-1] is None
            self._last = bytes(self._rest[start - 1 :]) if is_key else b""
            self._string = None
        return end + 1

    def _in_picture(self, picture: Base64String, chunk: bytes, at: int) -> int:
        # A quote that is escaped ends it too: base64 contains none, so it is refused either way.
        end = chunk.find(b'"', at)
        try:
            picture.feed(chunk[at : end if end >= 0 else len(chunk)])
            if end >= 0:
                picture.finish()
                self._gathering.call(Name(file=picture.file))
        except ValueError as error:
            detail = f"picture {len(self._gathering.pictures) - 1} is not base64: {error}"
            pointer = "".join(f"/{_step(step)}" for step in self._path)
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_base64", detail, pointer=pointer) from error
        if end < 0:
            return len(chunk)
        self._picture = None
        self._keep(b'%d"' % (len(self._gathering.pictures) - 1))
        self._shifts.append((len(self._rest), self._before + end + 1 - len(self._rest)))
        return end + 1

    def _place(self, offset: int) -> int:
        """Where in the body a byte of the rest stood."""
        return offset + self._shifts[bisect_right(self._shifts, (offset, sys.maxsize)) - 1][1]

    def _keep(self, data: bytes) -> None:
        self._rest += data
        if len(self._rest) > REST_BYTES:
            raise too_large(f'the JSON beside the pictures in "{self._places[0][0]}"', REST_BYTES)
        while len(self._rest) > self._counted + COUNTED_BYTES:
            self._gathering.count(COUNTED_BYTES)
            self._counted += COUNTED_BYTES

    def _count(self) -> None:
        self._marks += 1
        if self._marks > MARKS_MOST:
            detail = f"it has more than {MARKS_MOST} brackets, colons, commas and quotes"
            raise _bad_json(detail, limit_marks=MARKS_MOST)


class InputsReader(TextReader):
    """``{"inputs": "<base64>" or a list of them, "parameters": {...}}``."""

    def __init__(self, gathering: Gathering) -> None:
        super().__init__(gathering, [("inputs",), ("inputs", int)])

    def finish(self, query: Mapping[str, Any]) -> Request:
        """The request, once all of the body has come. Raises ``Problem`` with 400, 415 or 422."""
        body = self.body()
        if self._gathering.strict:
            _check_members(body)
        inputs = body.get("inputs")
        given = inputs if isinstance(inputs, list) else [inputs]
        numbers = [int(number) for number in given if isinstance(number, str)]
        if not numbers or len(numbers) < len(given):
            detail = '"inputs" must be a picture in base64 or a data URL, or a list of them'
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_inputs", detail, pointer="/inputs")
        return self._gathering.request(numbers, {**query, **parameters_of(body)})


def parameters_of(body: Mapping[str, Any], also: Sequence[str] = ()) -> Mapping[str, Any]:
    """The parameters of a body, which may be ``also`` these. Raises ``Problem`` with 422."""
    parameters = {} if body.get("parameters") is None else body["parameters"]
    known = [*PARAMETERS, *also]
    if not isinstance(parameters, dict):
        detail = f'"parameters" must be an object, which may have {" and ".join(known)}'
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_parameters", detail, pointer="/parameters")
    for name in parameters:
        if name not in known:
            raise unknown(name, '"parameters"', known, f"/parameters/{_step(name)}")
    return parameters


def _check_members(body: Mapping[str, Any]) -> None:
    """Raises ``Problem`` with 422 when a body has more than pictures and parameters."""
    for name in body:
        if name in PARAMETERS:
            detail = f'{name} belongs into the object "parameters", or into the query of the URL'
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_parameters", detail, pointer=f"/{name}")
        if name not in MEMBERS:
            raise unknown(name, "the body", MEMBERS, f"/{_step(name)}", PARAMETERS)


def _leads_to(place: Place, path: Sequence[str | int | None]) -> bool:
    if len(place) != len(path):
        return False
    for wanted, step in zip(place, path, strict=True):
        if not (step == wanted if isinstance(wanted, str) else isinstance(step, wanted)):
            return False
    return True


def _step(step: str | int | None) -> str:
    return str(step)[:STEP_SHOWN].replace("~", "~0").replace("/", "~1")


def _text(string: bytes) -> str:
    try:
        return str(json.loads(string.decode()))
    except ValueError as error:
        raise _bad_json("a key of an object is not a string in double quotes, in UTF-8") from error


def _bad_json(why: str, **numbers: int) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "bad_json", f"the body cannot be read as JSON: {why}", **numbers)
