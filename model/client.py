"""The worker's side of the worker protocol: HTTP to the server's internal port, over one kept connection a thread.

A lease answers 200 with a frame: a big-endian uint32 length, that many bytes of JSON, then one blob a prediction (see
``unpack``), or 204 when nothing came in time. Requests are repeated on a fresh connection while the server cannot be
reached: results and renewals name their lease's token, so repeating them does no harm, and a lease whose answer was
lost runs out by itself.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

CONNECT_SECONDS = 3.0  # a packet that was lost with the server's pod is sent again ever later: a new try is faster
REPLY_SECONDS = 10.0
RETRY_FIRST, RETRY_MOST = 0.05, 1.0
GONE_SECONDS = 60.0  # a server that is replaced takes half of that to come back


class ServerGone(Exception):
    """The server could not be reached for so long that the worker should end."""


class Refused(Exception):
    """The server cannot take what this worker sends: the two do not fit together."""


class Interrupted(Exception):
    """Another thread called ``interrupt``."""


class Dismissed(Exception):
    """The server no longer wants this worker: its token or its Job is not known (any more)."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A prediction held for a while, to be renewed each ``renew`` seconds: its pictures, and the token of the hold."""

    id: str
    token: str
    top_k: int
    renew: float
    images: tuple[memoryview, ...]


class Client:
    """One connection: use it from one thread; only ``interrupt`` may come from another."""

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._token = token
        self._clock, self._sleep = clock, sleep
        self._interrupted = False
        self._connection: http.client.HTTPConnection | None = None

    def lease(self, most: int, wait: float) -> list[Lease]:
        """Up to ``most`` predictions, waiting up to ``wait`` seconds for the first."""
        body = self._post("/work/lease", {"most": most, "wait": wait}, wait + REPLY_SECONDS)
        return unframe(body) if body else []

    def complete(self, completions: Sequence[dict[str, Any]]) -> None:
        """Hand in results; the server keeps each unless the prediction has ended already."""
        self._post("/work/complete", {"completions": completions}, REPLY_SECONDS)

    def extend(self, leases: Sequence[tuple[str, str]]) -> set[str]:
        """Hold the leases longer; returns the ids that are ours no more."""
        body = self._post("/work/extend", {"leases": [list(lease) for lease in leases]}, REPLY_SECONDS)
        return set(json.loads(body)["lost"])

    def release(self, leases: Sequence[tuple[str, str]]) -> None:
        """Hand predictions back unworked: they keep their place and their attempts."""
        self._post("/work/release", {"leases": [list(lease) for lease in leases]}, REPLY_SECONDS)

    def interrupt(self) -> None:
        """End the request under way in another thread, and begin none from now on: ``Interrupted`` there."""
        self._interrupted = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _post(self, path: str, body: dict[str, Any], timeout: float) -> bytes:
        data = json.dumps(body).encode()
        pause, failing_since = RETRY_FIRST, None
        while True:
            if self._interrupted:
                raise Interrupted
            try:
                status, answer = self._once(path, data, timeout)
            except (OSError, http.client.HTTPException) as error:
                status, answer = 0, str(error).encode()
                self.close()
            if status in (200, 204):
                return answer
            if status in (401, 403, 410):
                raise Dismissed(_detail(answer))
            if 400 <= status < 500 and status != 429:
                raise Refused(f"POST {path} answered {status}: {_detail(answer)}")
            now = self._clock()
            failing_since = now if failing_since is None else failing_since
            if now - failing_since >= GONE_SECONDS:
                raise ServerGone(f"no answer from {self._address[0]}:{self._address[1]}: {_detail(answer) or status}")
            self._sleep(pause)
            pause = min(2 * pause, RETRY_MOST)

    def close(self) -> None:
        """Drop the connection; the next request makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _once(self, path: str, data: bytes, timeout: float) -> tuple[int, bytes]:
        if self._connection is None or self._connection.sock is None:  # the server may have closed it after its answer
            self._connection = http.client.HTTPConnection(*self._address, timeout=CONNECT_SECONDS)
            self._connection.connect()
        connection = self._connection
        connection.sock.settimeout(timeout)
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": "application/json"}
        connection.request("POST", path, data, headers)
        response = connection.getresponse()
        return response.status, response.read()


def unframe(frame: bytes) -> list[Lease]:
    """The predictions in a lease answer."""
    view = memoryview(frame)
    (length,) = struct.unpack_from(">I", view)
    offset = 4 + length
    leases = []
    for entry in json.loads(bytes(view[4:offset]))["predictions"]:
        blob = view[offset : offset + entry["size"]]
        offset += entry["size"]
        leases.append(Lease(entry["id"], entry["token"], entry["top_k"], entry["renew"], unpack(blob)))
    return leases


def unpack(blob: memoryview) -> tuple[memoryview, ...]:
    """The pictures of a blob: a big-endian uint32 count, a uint32 size each, then the pictures."""
    (count,) = struct.unpack_from(">I", blob)
    sizes = struct.unpack_from(f">{count}I", blob, 4)
    images, offset = [], 4 + 4 * count
    for size in sizes:
        images.append(blob[offset : offset + size])
        offset += size
    return tuple(images)


def _detail(answer: bytes) -> str:
    try:
        return str(json.loads(answer).get("detail", ""))
    except (ValueError, AttributeError):
        return answer.decode(errors="replace")[:200]
