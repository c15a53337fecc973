"""A closed loop of HTTP clients. It is as light as Python allows, because it shares the processors with the server."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import median, quantiles

SEND_BUFFER = 1 << 20  # large enough to send a whole request in one call
ENDED_SECONDS = 90.0  # longer than the server lets any request wait
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
RETRY = re.compile(rb"\r\nretry-after: (\d+)", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: close", re.IGNORECASE)


@dataclass(slots=True)
class Outcome:
    """What the clients saw in ``seconds``: how many answers had each status, and how many seconds each 2xx took.

    ``told_when`` counts the refusals that said when to come back.
    """

    seconds: float
    statuses: Counter[int] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    told_when: int = 0

    @property
    def rate(self) -> float:
        """How many answers with a 2xx came a second."""
        return len(self.took) / self.seconds

    @property
    def p50(self) -> float:
        """The median of the seconds that a 2xx took."""
        return median(self.took)

    @property
    def p95(self) -> float:
        """The 95th percentile of the seconds that a 2xx took."""
        return quantiles(self.took, n=20)[18]

    @property
    def p99(self) -> float:
        """The 99th percentile of the seconds that a 2xx took."""
        return quantiles(self.took, n=100)[98]


def run(
    port: int, path: str, body: bytes, clients: int, seconds: float, headers: str = "", kind: str = "image/jpeg"
) -> Outcome:
    """Let several clients POST the body again and again. A refused client waits for as long as Retry-After says.

    ``kind`` is the body's Content-Type.

    Raises ``ConnectionError`` when a connection ends before its answer, and ``TimeoutError`` when no answer comes.
    """
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body
    return asyncio.run(_run(port, request, clients, seconds))


async def _run(port: int, request: bytes, count: int, seconds: float) -> Outcome:
    outcome, end = Outcome(seconds), time.perf_counter() + seconds
    clients = [_Client(port, request, end, outcome) for _ in range(count)]
    async with asyncio.timeout(seconds + ENDED_SECONDS):
        await asyncio.gather(*(client.connect() for client in clients))
        await asyncio.gather(*(client.ended for client in clients))
    return outcome


class _Client(asyncio.Protocol):
    """One client. It consists of the event loop's callbacks, because a task or a stream would cost more."""

    def __init__(self, port: int, request: bytes, end: float, outcome: Outcome) -> None:
        self._port, self._request, self._end, self._outcome = port, request, end, outcome
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._asking, self._answer, self._began = False, b"", 0.0
        self.ended: asyncio.Future[None] = self._loop.create_future()

    async def connect(self) -> None:
        """Connect, and send the first request once the connection is there."""
        try:
            await self._loop.create_connection(lambda: self, "127.0.0.1", self._port)
        except OSError as error:
            self.ended.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        assert isinstance(transport, asyncio.WriteTransport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with the next piece of the answer."""
        self._answer += data
        head, separator, content = self._answer.partition(b"\r\n\r\n")
        if separator and (length := LENGTH.search(head)) and len(content) >= int(length[1]):
            self._answered(head)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by asyncio."""
        if self._asking and not self.ended.done():
            self.ended.set_exception(error or ConnectionResetError("a connection ended before its answer"))

    def _ask(self) -> None:
        self._began = time.perf_counter()
        if self._began >= self._end:
            self._leave()
        elif self._transport is None or self._transport.is_closing():
            self._connecting = self._loop.create_task(self.connect())
        else:
            self._asking, self._answer = True, b""
            self._transport.write(self._request)

    def _answered(self, head: bytes) -> None:
        status, now = int(head[9:12]), time.perf_counter()
        self._asking = False
        # What comes after the end does not count, unless it is the only answer: a cold start is longer than its run.
        if now < self._end or not self._outcome.took:
            self._outcome.statuses[status] += 1
            if status < 300:
                self._outcome.took.append(now - self._began)
        if CLOSE.search(head) and self._transport is not None:
            self._transport.close()
        if status >= 400 and (retry := RETRY.search(head)):
            self._outcome.told_when += 1
            self._loop.call_later(min(float(retry[1]), self._end - now), self._ask)
        else:
            self._ask()

    def _leave(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self.ended.set_result(None)
