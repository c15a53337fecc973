"""Reads pictures from multipart/form-data while it arrives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from server.intake.gathering import PARAMETERS, Gathering, Request
from server.problems import Problem

FIELDS_MOST, FIELD_BYTES = 100, 64 * 1024  # a form may have fields that are not ours
# The parser knows ``filename`` only. Some clients send just this one when the name is not ASCII (RFC 5987).
EXTENDED_FILENAME = re.compile(r";\s*filename\*\s*=\s*[^;\s]", re.IGNORECASE)


class FormReader:
    """The parts that have a file name, or say that they are pictures, are pictures; parameters may be other parts."""

    def __init__(self, content_type: str, gathering: Gathering) -> None:
        """Read a form with the boundary that its type names. Raises ``Problem`` with 400."""
        boundary = re.search(r'boundary="?([^";,]+)"?', content_type)
        if boundary is None:
            raise _bad("it has no boundary")
        try:
            self._parser = PushMultipartParser(boundary[1], max_segment_count=gathering.most + FIELDS_MOST)
        except (MultipartError, UnicodeEncodeError) as error:
            raise _bad(str(error)) from error
        self._gathering = gathering
        self._names: list[str] = []  # of the pictures
        self._field: str | None = None  # the name of the part that is read now, if it is no picture
        self._fields = 0  # bytes
        self._parameters: dict[str, bytearray] = {}

    def feed(self, chunk: bytes) -> None:
        """Take the next part of the body. Raises ``Problem`` with 400, 413 or 503."""
        try:
            for event in self._parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is not None:
                    self._add(bytes(event))
        except MultipartError as error:
            raise _bad(str(error)) from error

    def finish(self, query: Mapping[str, Any]) -> Request:
        """The request, once all of the body has come. Raises ``Problem`` with 400, 415 or 422."""
        try:
            self._parser.close()
        except MultipartError as error:
            raise _bad(str(error)) from error
        if not self._names:
            detail = "no part of the body is a file: send pictures with a filename, or with a Content-Type of image/..."
            raise Problem(HTTPStatus.BAD_REQUEST, "no_image", detail)
        given = {name: value.decode(errors="replace") for name, value in self._parameters.items()}
        # As most frameworks group them: by field in the order of the fields' first pictures.
        firsts = {name: index for index, name in reversed(list(enumerate(self._names)))}
        order = sorted(range(len(self._names)), key=lambda index: firsts[self._names[index]])
        return self._gathering.request([self._gathering.pictures[index] for index in order], {**query, **given})

    def _begin(self, part: MultipartSegment) -> None:
        if not part.name:
            raise _bad("a part has no name")
        if any("\n" in value for _, value in part.headerlist):  # the parser finds it only at the end of what it has
            raise _bad("a header of a part contains a line feed")
        if _is_picture(part):
            self._field = None
            self._names.append(part.name)
            self._gathering.begin()
            return
        self._field = part.name
        if part.name in PARAMETERS:
            self._parameters[part.name] = bytearray()  # the last one counts

    def _add(self, data: bytes) -> None:
        if self._field is None:
            return self._gathering.add(data)
        self._fields += len(data)
        if self._fields > FIELD_BYTES:
            detail = f"the fields of the form have more than {FIELD_BYTES} bytes"
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_many_bytes", detail, limit_bytes=FIELD_BYTES)
        if (parameter := self._parameters.get(self._field)) is not None:
            self._gathering.count(len(data))
            parameter += data
        return None


def _is_picture(part: MultipartSegment) -> bool:
    if part.filename or EXTENDED_FILENAME.search(part.header("Content-Disposition", "")):
        return True
    # RFC 7578 lets a file have no name.
    return str(part.header("Content-Type", "")).strip().lower().startswith("image/")


def _bad(why: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "bad_multipart", f"the body is not multipart/form-data: {why}")
