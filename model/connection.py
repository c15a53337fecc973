"""The worker's side of the worker protocol: HTTP to the server's internal port, one keep-alive connection per thread.

A lease request is answered with 200 and a frame (a big-endian uint32 length, that many bytes of JSON, then one blob per
prediction, see ``unpack``), or with 204 when no prediction arrived in time. A request that got no answer is sent again
on a new connection. That is safe: results and renewals carry the token of their lease, and a lease whose answer was
lost expires by itself.
"""

from __future__ import annotations

import http.client
import json
import logging
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

# A SYN that was lost with the server's old pod is retransmitted at ever longer intervals: a new attempt is faster.
CONNECT_SECONDS = 3.0
REPLY_SECONDS = 10.0
RETRY_FIRST, RETRY_MOST = 0.05, 1.0
GONE_SECONDS = 60.0  # twice as long as a server that is replaced takes to come back


class ServerGone(Exception):
    """The server has been unreachable for ``GONE_SECONDS``; the worker should end."""


class RequestRejected(Exception):
    """The server rejects a request of this worker as invalid; sending it again would not help."""


class Interrupted(Exception):
    """Another thread called ``interrupt``."""


class Dismissed(Exception):
    """The server does not know this worker's token or Job (any more); the worker should end."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A prediction that this worker holds for a limited time."""

    id: str
    """The prediction's id."""
    token: str
    """Proof that this worker holds the lease; every later request about it must carry it."""
    top_k: int
    """How many labels the client asks for."""
    renew: float
    """Seconds between two renewals."""
    pictures: tuple[memoryview, ...]
    """The bytes of each picture, as the client sent them."""


class ServerConnection:
    """A connection to the server. Only ``interrupt`` may be called from another thread than the one that uses it.

    Every request raises ``Dismissed``, ``RequestRejected``, ``ServerGone`` or ``Interrupted`` when it cannot succeed.
    """

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
        """Lease up to ``most`` predictions; waits up to ``wait`` seconds for the first, and returns none after that."""
        body = self._post("/work/lease", {"most": most, "wait": wait}, wait + REPLY_SECONDS)
        return unframe(body) if body else []

    def complete(self, completions: Sequence[dict[str, Any]]) -> None:
        """Send results; the server keeps each one unless its prediction has already ended.

        A result that the server finds invalid is logged; its prediction is leased again, or fails.
        """
        body = self._post("/work/complete", {"completions": completions}, REPLY_SECONDS)
        for completion, outcome in zip(completions, json.loads(body)["outcomes"], strict=False):
            if outcome == "invalid":
                log.error("the server found the result of %s invalid", completion["id"])

    def extend(self, leases: Sequence[tuple[str, str]]) -> set[str]:
        """Renew leases, given as (id, token); returns the ids of those that were lost."""
        body = self._post("/work/extend", {"leases": [list(lease) for lease in leases]}, REPLY_SECONDS)
        return set(json.loads(body)["lost"])

    def release(self, leases: Sequence[tuple[str, str]]) -> None:
        """Return leases, given as (id, token), unused: the predictions keep their place and their attempts."""
        self._post("/work/release", {"leases": [list(lease) for lease in leases]}, REPLY_SECONDS)

    def interrupt(self) -> None:
        """Make the current request of the other thread, and every later one, raise ``Interrupted``."""
        # Set first: if the shutdown meets no request, the next one sees it.
        self._interrupted = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            # Closing the socket would not wake a thread that is blocked in recv(); shutting it down does.
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
            if status in (401, 403, 410):  # to repeat the request would bring the same answer for ever
                raise Dismissed(_detail(answer))
            if 400 <= status < 500 and status != 429:
                raise RequestRejected(f"POST {path} answered {status}: {_detail(answer)}")
            # What is left may pass: no answer, 429 or 5xx, as from a server that is being replaced.
            now = self._clock()
            failing_since = now if failing_since is None else failing_since
            if now - failing_since >= GONE_SECONDS:
                raise ServerGone(f"no answer from {self._address[0]}:{self._address[1]}: {_detail(answer) or status}")
            self._sleep(pause)
            pause = min(2 * pause, RETRY_MOST)

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _once(self, path: str, data: bytes, timeout: float) -> tuple[int, bytes]:
        # http.client sets sock to None after an answer with "Connection: close".
        if self._connection is None or self._connection.sock is None:
            self._connection = http.client.HTTPConnection(*self._address, timeout=CONNECT_SECONDS)
            self._connection.connect()
        connection = self._connection
        # The short limit was for connecting; a lease request may wait much longer for its answer.
        connection.sock.settimeout(timeout)
        # The token is asked for with each request, as Kubernetes renews it.
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": "application/json"}
        connection.request("POST", path, data, headers)
        response = connection.getresponse()
        return response.status, response.read()


def unframe(frame: bytes) -> list[Lease]:
    """Return the predictions in the answer to a lease request."""
    view = memoryview(frame)
    (length,) = struct.unpack_from(">I", view)
    offset = 4 + length
    leases = []
    for entry in json.loads(bytes(view[4:offset]))["predictions"]:
        blob = view[offset : offset + entry["size"]]
        offset += entry["size"]
        leases.append(
            Lease(
                id=entry["id"],
                token=entry["token"],
                top_k=entry["top_k"],
                renew=entry["renew"],
                pictures=unpack(blob),
            )
        )
    return leases


def unpack(blob: memoryview) -> tuple[memoryview, ...]:
    """Return the pictures of a blob: a big-endian uint32 count, the uint32 size of each, then the pictures."""
    (count,) = struct.unpack_from(">I", blob)
    sizes = struct.unpack_from(f">{count}I", blob, 4)
    pictures, offset = [], 4 + 4 * count
    for size in sizes:
        pictures.append(blob[offset : offset + size])
        offset += size
    return tuple(pictures)


def _detail(answer: bytes) -> str:
    try:
        return str(json.loads(answer).get("detail", ""))
    except (ValueError, AttributeError):
        return answer.decode(errors="replace")[:200]
