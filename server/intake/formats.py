"""Finds the pictures and parameters in the body of a request, in any of the accepted formats, while it arrives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Protocol

from server.intake.forms import FormReader
from server.intake.gathering import Gathering, Request
from server.intake.kinds import MAGIC, MAGIC_BYTES, unsupported
from server.intake.memory import Held
from server.intake.texts import REST_BYTES, InputsReader
from server.problems import Problem
from server.settings.records import Limits

FORM = "multipart/form-data"
PART_OVERHEAD_BYTES = 16 * 1024  # of a form, for each picture
BOM_UTF8 = b"\xef\xbb\xbf"
UTF_16 = re.compile(rb"\xff\xfe|\xfe\xff|[{\[]\0|\0[{\[]")
BEGINS_FORM = re.compile(rb"(\r\n)?--[^\r\n]{1,70}\r\nContent-", re.IGNORECASE)


class Reader(Protocol):
    """Takes a body part by part. How it is cut into parts makes no difference."""

    def feed(self, chunk: bytes) -> None:
        """Take the next part. Raises ``Problem`` with 400, 413, 415, 422 or 503."""

    def finish(self, query: Mapping[str, Any]) -> Request:
        """The request, once all of the body has come; parameters of the body count before those of the query.

        Raises ``Problem``.
        """


def most_bytes(headers: Mapping[str, str], limits: Limits) -> int:
    """How long a body with these headers may be."""
    kind = _media_type(headers.get("Content-Type", ""))
    if kind == FORM:
        return limits.images * (limits.image_bytes + PART_OVERHEAD_BYTES)
    if kind.startswith("image/") or kind == "application/octet-stream":
        return limits.image_bytes
    return most_text_bytes(limits)


def most_text_bytes(limits: Limits) -> int:
    """How long a body may be that has pictures in JSON."""
    return limits.images * (4 * limits.image_bytes // 3 + 4) + REST_BYTES


def reader(headers: Mapping[str, str], limits: Limits, held: Held, *, strict: bool = True) -> Reader:
    """Return what reads a body with these headers; ``strict`` as for ``Gathering``."""
    return Sniffer(headers.get("Content-Type", ""), Gathering(limits, held, strict=strict))


class PictureReader:
    """A body that is a picture."""

    def __init__(self, gathering: Gathering) -> None:
        self._gathering = gathering
        gathering.begin()

    def feed(self, chunk: bytes) -> None:
        """Take the next part of the body. Raises ``Problem`` with 413 or 503."""
        self._gathering.add(chunk)

    def finish(self, query: Mapping[str, Any]) -> Request:
        """The request, once all of the body has come. Raises ``Problem`` with 422."""
        return self._gathering.request([0], query)


class Sniffer:
    """A body whose type and first bytes decide what reads it."""

    def __init__(self, content_type: str, gathering: Gathering) -> None:
        self._content_type, self._gathering = content_type, gathering
        self._start = b""
        self._reader: Reader | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next part of the body. Raises ``Problem`` with 400, 413, 415, 422 or 503."""
        if self._reader is None:
            self._start += chunk
            if len(self._start) < MAGIC_BYTES:
                return
            chunk, self._reader = self._start, self._choose()
        self._reader.feed(chunk)

    def finish(self, query: Mapping[str, Any]) -> Request:
        """The request, once all of the body has come. Raises ``Problem`` with 400, 413, 415, 422 or 503."""
        if self._reader is None:
            if not self._start:
                detail = "the body is empty: send the bytes of a picture"
                raise Problem(HTTPStatus.BAD_REQUEST, "empty_body", detail)
            self._reader = self._choose()
            self._reader.feed(self._start)
        return self._reader.finish(query)

    def _choose(self) -> Reader:
        start, kind = self._start, _media_type(self._content_type)
        if MAGIC.match(start):  # whatever its type says: many clients set it by habit, or leave it to their library
            return PictureReader(self._gathering)
        if kind == FORM:
            return FormReader(self._content_type, self._gathering)
        text = start.removeprefix(BOM_UTF8).lstrip()[:1]
        if kind.startswith("image/"):
            raise unsupported(start, _text_named(start, text) or "this is no picture")
        if UTF_16.match(start):
            detail = "the body is text in UTF-16, and JSON is in UTF-8: save or encode it as UTF-8"
            raise Problem(HTTPStatus.BAD_REQUEST, "bad_json", detail)
        if kind.endswith("json") or text in (b"{", b"[", b""):
            return InputsReader(self._gathering)
        what = f"{kind or 'a body without Content-Type'} is not taken"
        raise unsupported(start, _text_named(start, text) or what)


def _text_named(start: bytes, text: bytes) -> str:
    """What a body is that should have had another type; empty if it is nothing of ours."""
    if text == b"{":
        return "this is JSON: send it with Content-Type: application/json"
    if BEGINS_FORM.match(start):
        return "this is a form: send it with Content-Type: multipart/form-data, and the boundary with which it begins"
    return ""


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
