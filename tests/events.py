"""Reads event streams as a client does."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.running import ANSWER_SECONDS, Answer


@dataclass(frozen=True, slots=True)
class Event:
    """One message of a stream; ``id`` is empty if it had none."""

    name: str
    data: Any
    id: str = ""


class Stream:
    """An open stream. ``answer`` is a refusal if there is no stream.

    ``retry`` is the last hint in milliseconds, and ``last_id`` what a client sends as ``Last-Event-ID``.
    """

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.headers: Mapping[str, str] = dict(response.getheaders())
        self.status, self._response = response.status, response
        self.retry, self.last_id = 0, ""

    @property
    def answer(self) -> Answer:
        """The whole answer, once it has ended."""
        return Answer(self.status, self.headers, self._response.read())

    @property
    def was_cut(self) -> bool:
        """Whether the connection was lost before the server ended the stream; known when ``next`` has returned None."""
        return self._response.chunk_left is not None

    def next(self) -> Event | None:
        """The next event; None if the stream has ended. Raises ``TimeoutError`` if nothing comes."""
        name, data, found = "message", [], ""
        while line := self._response.readline().decode():
            field, _, value = line.rstrip("\n").partition(":")
            value = value.removeprefix(" ")
            match field:
                case "event":
                    name = value
                case "data":
                    data.append(value)
                case "id":
                    self.last_id = found = value
                case "retry":
                    self.retry = int(value)
                case "":
                    if data and line == "\n":
                        return Event(name, json.loads("\n".join(data)), found)
        return None

    def until_comment(self) -> None:
        """Return when the next comment has come. Raises ``TimeoutError`` if nothing comes."""
        while (line := self._response.readline()) and not line.startswith(b":"):
            pass
        assert line, "the stream has ended"

    def rest(self) -> Iterator[Event]:
        """All events until the stream ends."""
        while (event := self.next()) is not None:
            yield event

    def until(self, *names: str) -> list[Event]:
        """The events that come up to the first with one of these names."""
        found: list[Event] = []
        for event in self.rest():
            found.append(event)
            if event.name in names:
                return found
        raise AssertionError(f"the stream ended before one of {names} came: {found}")


@contextmanager
def opened(
    port: int,
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    last_id: str = "",
    source: str = "127.0.0.1",
    seconds: float = ANSWER_SECONDS,
) -> Iterator[Stream]:
    """A stream while the block lasts. A read waits for at most ``seconds``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds, source_address=(source, 0))
    try:
        seen = {"Last-Event-ID": last_id} if last_id else {}
        connection.request("GET", path, headers={**(headers or {}), **seen})
        response = connection.getresponse()
        with response:
            yield Stream(response)
    finally:
        connection.close()
