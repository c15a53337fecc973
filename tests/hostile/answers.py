"""Reads answers from a connection, and judges each of them."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.hostile.oddities import SECRET
from tests.running import ROOT

FIELDS = {"type", "title", "status", "code", "detail", "request_id"}
SHAPES = {"error": "code", "message": "problem"}
"""Of routes in other services' shapes: the member with an error's text, and the one with its code."""
HEAD_MOST = 1 << 16
STREAM = "text/event-stream"
PASSWORDS = b"root:x:0:0:"  # how /etc/passwd begins


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of a problem; empty if it is none."""
        found = self.json
        return str(found.get("code", "")) if isinstance(found, dict) and self.status >= 400 else ""

    @property
    def is_stream(self) -> bool:
        """Whether it is an event stream, of which only the beginning was read."""
        return self.headers.get("content-type") == STREAM

    @property
    def json(self) -> Any:
        """The body, read as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Reader:
    """Reads answers one after another from a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._data = connection, b""

    def read(self, method: str) -> Reply | None:
        """The next answer, or None when the connection ends instead. Raises ``TimeoutError`` when nothing comes.

        Raises ``ValueError`` when what comes is no HTTP.
        """
        while True:
            raw = self._until(b"\r\n\r\n")
            if raw is None:
                return None
            first, *lines = raw.decode("latin-1").split("\r\n")
            words = first.split(" ", 2)
            if words[0] != "HTTP/1.1" or not re.fullmatch(r"\d{3}", words[1]):
                raise ValueError(f"no HTTP: {first[:100]!r}")
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            status = int(words[1])
            if status >= 200:
                break
        if method != "HEAD" and headers.get("content-type") == STREAM:
            return self._begun(Reply(status, headers, b""))
        size = 0 if method == "HEAD" or status in (204, 304) else int(headers.get("content-length", 0))
        body = self._exactly(size)
        return None if body is None else Reply(status, headers, body)

    def _begun(self, reply: Reply) -> Reply | None:
        """An event stream with what comes at first; it may never end."""
        return Reply(reply.status, reply.headers, self._data) if self._data or self._more() else None

    def _until(self, mark: bytes) -> bytes | None:
        while mark not in self._data:
            if not self._more() or len(self._data) > HEAD_MOST:
                return None
        found, _, self._data = self._data.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes | None:
        while len(self._data) < size:
            if not self._more():
                return None
        found, self._data = self._data[:size], self._data[size:]
        return found

    def _more(self) -> bool:
        got = self._connection.recv(1 << 18)
        self._data += got
        return bool(got)


@cache
def documented() -> frozenset[str]:
    """The codes that docs/errors.md, docs/clients.md and docs/worker-protocol.md name."""
    pages = [(ROOT / "docs" / name).read_text() for name in ("errors.md", "clients.md", "worker-protocol.md")]
    return frozenset(code for page in pages for code in re.findall(r"`([a-z0-9_]+)`", page))


def complaint(reply: Reply, method: str) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if leak := _leak(reply):
        return leak
    if reply.status < 300 or reply.status == 304:  # to If-None-Match
        return ""
    ended = isinstance(reply.json, dict) and "prediction" in reply.json  # then its code may be a worker's
    if reply.status >= 500 and not (reply.status == 504 and ended):
        if reply.status != 503:
            return f"answered {reply.status}"
        if "retry-after" not in reply.headers and reply.json != {"status": "stopping"}:
            return "503 without Retry-After"
    if reply.status < 400:
        return f"answered {reply.status}"
    return _complaint_of_error(reply, method, ended=ended)


def _complaint_of_error(reply: Reply, method: str, *, ended: bool) -> str:
    kind = reply.headers.get("content-type")
    if kind not in ("application/problem+json", "application/json"):
        return f"{reply.status} is no problem+json"
    if method == "HEAD":
        return ""
    if kind == "application/json":
        return _complaint_of_shape(reply, ended=ended)
    if not isinstance(reply.json, dict) or FIELDS - reply.json.keys() or reply.json["status"] != reply.status:
        return f"{reply.status} lacks parts of a problem: {reply.body[:200]!r}"
    return "" if ended or reply.code in documented() else f"the code {reply.code} is not in docs/errors.md"


def _complaint_of_shape(reply: Reply, *, ended: bool) -> str:
    found = reply.json if isinstance(reply.json, dict) else {}
    codes = [found[code] for text, code in SHAPES.items() if {text, code, "request_id"} <= found.keys()]
    if len(codes) != 1:
        return f"{reply.status} is no problem+json, and has no other service's shape: {reply.body[:200]!r}"
    return "" if ended or codes[0] in documented() else f"the code {codes[0]} is not in the docs"


def _leak(reply: Reply) -> str:
    if SECRET.encode() in reply.body or any(SECRET in value for value in reply.headers.values()):
        return "a key is in the answer"
    return "a file of the machine is in the answer" if PASSWORDS in reply.body else ""
