"""Reads pictures from multipart/form-data while it arrives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from server.intake.base64_text import Base64Text
from server.intake.gathering import PARAMETERS, Gathering, Request
from server.intake.kinds import MAGIC, MAGIC_BYTES
from server.intake.names import Name, of_part
from server.problems import Problem, unknown

FIELDS_MOST, FIELD_BYTES = 100, 64 * 1024  # a form may have fields that are not ours
AS_IT_IS = ("", "binary", "8bit", "7bit")
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))', re.IGNORECASE)


class FormReader:
    """The parts that have a file name, or are pictures by their type or by their first bytes, are pictures.

    Parameters may be other parts. A file input of a browser in which nobody chose a file is no picture.
    """

    def __init__(self, content_type: str, gathering: Gathering) -> None:
        """Read a form with the boundary that its type names. Raises ``Problem`` with 400."""
        found = _BOUNDARY.search(content_type)
        if found is None:
            detail = (
                "its Content-Type names no boundary. Let your HTTP library set the Content-Type of a form by itself"
            )
            raise _bad(detail)
        boundary = found[2] or re.sub(r"\\(.)", r"\1", found[1])
        try:
            most = gathering.most + FIELDS_MOST
            # Latin-1 takes all bytes: what names are is found out later.
            raw = boundary.encode("latin-1")
            self._parser = _Parser(raw, max_segment_count=most, header_charset="latin-1")
        except (MultipartError, UnicodeEncodeError) as error:
            raise _bad(str(error)) from error
        self._gathering = gathering
        self._begun = False
        self._part: _Part | None = None
        self._fields = 0  # bytes
        self._parameters: dict[str, bytearray] = {}

    def feed(self, chunk: bytes) -> None:
        """Take the next part of the body. Raises ``Problem`` with 400, 413, 422 or 503."""
        try:
            for event in self._parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is not None:
                    self._add(bytes(event))
                else:
                    self._end()
        except MultipartError as error:
            raise _bad(_in_words(error)) from error

    def finish(self, query: Mapping[str, Any]) -> Request:
        """The request, once all of the body has come. Raises ``Problem`` with 400, 415 or 422."""
        try:
            self._parser.close()
        except MultipartError as error:
            if self._begun:
                raise _bad("it ends before its last boundary, so that some of it is missing") from error
            raise _bad("the boundary of its Content-Type does not occur in it") from error
        if not self._gathering.pictures:
            detail = "no part of the body is a file: send pictures with a filename, or with a Content-Type of image/..."
            raise Problem(HTTPStatus.BAD_REQUEST, "no_image", detail)
        given = {name: value.decode(errors="replace") for name, value in self._parameters.items()}
        return self._gathering.request(range(len(self._gathering.pictures)), {**query, **given})

    def _begin(self, segment: MultipartSegment) -> None:
        self._begun = True
        if any("\n" in value for _, value in segment.headerlist):  # the parser finds it only at the end of what it has
            raise _bad("a header of a part contains a line feed without a carriage return")
        name = of_part(segment.name, segment.filename, segment.header("Content-Disposition", ""))
        kind = (segment.content_type or "").lower()
        if kind.startswith("multipart/"):
            raise _bad(f"the part {_shown(name)} is itself {kind[:80]}: send each file as a part of its own")
        encoding = segment.header("Content-Transfer-Encoding", "").strip().lower()
        if encoding not in (*AS_IT_IS, "base64"):
            raise _bad(f"the part {_shown(name)} has Content-Transfer-Encoding {encoding[:40]!r}: send it as it is")
        file_given = segment.filename is not None or name.file is not None
        is_picture = name.file is not None or (kind.startswith("image/") and not file_given)
        self._part = _Part(name, file_given=file_given, in_base64=encoding == "base64")
        if is_picture:
            self._picture(self._part)
        elif name.field in PARAMETERS and not file_given:
            self._parameters[name.field] = self._part.value = bytearray()  # the last one counts

    def _add(self, data: bytes) -> None:
        part = self._part
        assert part is not None
        if part.base64 is None:
            return self._take(part, data)
        return self._decoded(part, lambda base64: base64.feed(data))

    def _end(self) -> None:
        part, self._part = self._part, None
        assert part is not None
        if part.base64 is not None:
            self._decoded(part, Base64Text.finish)
        # A file input of a browser in which nobody chose a file has no bytes.
        if not part.is_picture and part.value is None and (part.start or not part.file_given):
            self._decide(part)

    def _decoded(self, part: _Part, step: Callable[[Base64Text], None]) -> None:
        assert part.base64 is not None
        try:
            step(part.base64)
        except ValueError as error:
            detail = f"the part {_shown(part.name)} is not base64, which its Content-Transfer-Encoding says: {error}"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_base64", detail) from error
        pieces = part.pieces[:]
        part.pieces.clear()
        for piece in pieces:
            self._take(part, piece)

    def _picture(self, part: _Part) -> None:
        part.is_picture = True
        self._gathering.begin(part.name)

    def _take(self, part: _Part, data: bytes) -> None:
        """Take the next bytes of a part, decoded."""
        if part.is_picture:
            return self._gathering.add(data)
        self._fields += len(data)
        if self._fields > FIELD_BYTES:
            detail = f"the fields of the form have more than {FIELD_BYTES} bytes"
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_many_bytes", detail, limit_bytes=FIELD_BYTES)
        if part.value is not None:
            self._gathering.count(len(data))
            part.value += data
        elif len(part.start) < MAGIC_BYTES:
            part.start += data
            if len(part.start) >= MAGIC_BYTES:
                self._decide(part)
        return None

    def _decide(self, part: _Part) -> None:
        """Find out by its first bytes what a part is that says nothing of it."""
        if part.file_given or MAGIC.match(part.start):
            self._picture(part)
            self._gathering.add(bytes(part.start))
        elif self._gathering.strict:
            raise unknown(part.name.field or "", "the form", PARAMETERS)


class _Part:
    """The part of a form that is read now."""

    def __init__(self, name: Name, *, file_given: bool, in_base64: bool) -> None:
        self.name, self.file_given = name, file_given
        self.is_picture = False
        self.start = bytearray()  # of what may be a picture
        self.value: bytearray | None = None  # of a parameter
        self.pieces: list[bytes] = []  # decoded from base64
        self.base64 = Base64Text(self.pieces.append) if in_base64 else None


class _Parser(PushMultipartParser):  # type: ignore[misc]
    """Takes parts of every disposition, and those without a name."""

    def _create_segment(self, headerlist: list[tuple[str, str]]) -> MultipartSegment:
        return MultipartSegment(headerlist)


def _in_words(error: MultipartError) -> str:
    if "line break" in str(error):
        return "its lines end with a line feed alone; they must end with a carriage return and a line feed"
    return str(error)


def _shown(name: Name) -> str:
    return repr(name.field or name.file or "")


def _bad(why: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "bad_multipart", f"the body is not multipart/form-data: {why}")
