"""Finds the pictures and parameters in the body of a request, in any of the accepted formats, while it arrives."""

from __future__ import annotations

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
# Types that say nothing about the body: the last one is what curl --data-binary sends unless it is told another.
SAYS_NOTHING = ("", "application/octet-stream", "application/x-www-form-urlencoded")


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


def reader(headers: Mapping[str, str], limits: Limits, held: Held) -> Reader:
    """Return what reads a body with these headers."""
    return Sniffer(headers.get("Content-Type", ""), Gathering(limits, held))


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
        if kind == FORM:
            return FormReader(self._content_type, self._gathering)
        if kind.startswith("image/") or kind in SAYS_NOTHING:
            if MAGIC.match(start):
                return PictureReader(self._gathering)
            if kind.startswith("image/"):
                raise unsupported(start)
        if kind.endswith("json") or start.lstrip()[:1] in (b"{", b"[", b""):
            return InputsReader(self._gathering)
        raise unsupported(start, f"{kind or 'a body without Content-Type'} is not taken")


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
