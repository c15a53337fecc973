"""Turns the bytes of an event stream into events, as WHATWG's HTML Living Standard says (9.2, server-sent events)."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

MOST_CHARACTERS = 4 * 1024 * 1024  # of one event; the largest are final ones, with a hundred labels a picture
_LINE_END = re.compile("\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``data`` is its text."""

    name: str
    data: str


class Events:
    """Reads the events of a stream that may be lost and opened again.

    ``last_id`` is what the server must then be told as ``Last-Event-ID``, and ``retry_seconds`` after how long.
    """

    def __init__(self, retry_seconds: float) -> None:
        self.last_id, self.retry_seconds = "", retry_seconds
        self._name, self._data, self._length = "message", list[str](), 0
        self.open()

    def open(self) -> None:
        """A connection begins. What came of an event before the last one was lost is forgotten."""
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._line, self._line_length = list[str](), 0
        self._after_return = False
        self._id = self.last_id
        self._begin()

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that these bytes complete. Raises ``ValueError`` for one that is too long."""
        text = self._decoder.decode(chunk)
        if self._after_return and text:  # what ended a line may have come in two chunks
            text = text.removeprefix("\n")
            self._after_return = False
        self._after_return = self._after_return or text.endswith("\r")
        *lines, rest = _LINE_END.split(text)
        for line in lines:
            yield from self._take("".join([*self._line, line]))
            self._line.clear()
            self._line_length = 0
        if rest:
            self._line.append(rest)
            self._line_length += len(rest)
        if self._length + self._line_length > MOST_CHARACTERS:
            raise ValueError(f"an event has more than {MOST_CHARACTERS} characters")

    def _take(self, line: str) -> Iterator[Event]:
        if not line:
            self.last_id = self._id
            if self._data:
                yield Event(self._name, "\n".join(self._data))
            self._begin()
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
            self._length += len(value) + 1
        elif field == "event":
            self._name = value
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and re.fullmatch("[0-9]{1,9}", value):
            self.retry_seconds = int(value) / 1000

    def _begin(self) -> None:
        self._name, self._data, self._length = "message", [], 0
