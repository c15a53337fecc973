"""A process that holds many event streams open, for ``benchmarks.streams``, and says when each of them told something.

The times are those of the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

Paths = Sequence[str]

ADDRESSES = 100  # of the loopback network, from 127.0.1.1 on
AT_ONCE = 32  # that are being opened
OPEN_SECONDS, ANSWER_SECONDS = 120.0, 150.0
EVENT = b"\ndata: "


@dataclass(frozen=True, slots=True)
class Opened:
    """How many streams are open, how many were refused with each status (0: no answer), and how long opening took."""

    open: int
    refused: dict[int, int]
    seconds: float


class Holder:
    """The process, as its parent uses it."""

    def __init__(self, port: int, paths: Paths) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_hold, args=(there, port, list(paths)), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.join(10)

    def open(self) -> Opened:
        """Open all streams, and wait for the first event of each."""
        found: Opened = self._ask("open")
        return found

    def count(self) -> int:
        """How many are open now."""
        return int(self._ask("count"))

    def mark(self) -> None:
        """Forget when streams told something."""
        self._ask("mark")

    def told(self) -> list[float]:
        """When each stream told something for the first time after ``mark``; those that told nothing are left out."""
        found: list[float] = self._ask("told")
        return found

    def _ask(self, order: str) -> Any:
        self._here.send(order)
        if not self._here.poll(ANSWER_SECONDS):
            raise TimeoutError(f"the process that holds the streams does not answer within {ANSWER_SECONDS:g} s")
        return self._here.recv()


class _Stream(asyncio.Protocol):
    """One stream. It consists of the event loop's callbacks, because a task for each would cost more."""

    def __init__(self, port: int, path: str) -> None:
        self._request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n\r\n".encode()
        self._head = b""
        self._loop = asyncio.get_running_loop()
        self.status = 0
        self.told_at: float | None = None
        self.is_open = False
        self.decided: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if not self.status:
            self._head += data
            words = self._head.split(b" ", 2)
            if len(words) > 2:
                self.status = int(words[1])
        if self.status == 200:
            if self.told_at is None and EVENT in data:
                self.told_at, self.is_open, self._head = time.monotonic(), True, b""
                self._decide()
        elif self.status:
            self._decide()
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Called by asyncio."""
        self.is_open = False
        self._decide()

    def _decide(self) -> None:
        if not self.decided.done():
            self.decided.set_result(None)


class _Streams:
    """All of them."""

    def __init__(self, port: int, paths: Paths) -> None:
        self._port, self._paths, self._all = port, paths, list[_Stream]()

    async def open(self) -> Opened:
        began, places = time.monotonic(), asyncio.Semaphore(AT_ONCE)
        async with asyncio.timeout(OPEN_SECONDS), asyncio.TaskGroup() as group:
            for number, path in enumerate(self._paths):
                group.create_task(self._open_one(places, path, f"127.0.1.{1 + number % ADDRESSES}"))
        refused = Counter(one.status for one in self._all if not one.is_open)
        return Opened(await self.count(), dict(refused), time.monotonic() - began)

    async def count(self) -> int:
        return sum(one.is_open for one in self._all)

    async def mark(self) -> None:
        for one in self._all:
            one.told_at = None

    async def told(self) -> list[float]:
        return [one.told_at for one in self._all if one.told_at is not None]

    async def _open_one(self, places: asyncio.Semaphore, path: str, source: str) -> None:
        async with places:
            stream = _Stream(self._port, path)
            self._all.append(stream)
            loop = asyncio.get_running_loop()
            try:
                await loop.create_connection(lambda: stream, "127.0.0.1", self._port, local_addr=(source, 0))
            except OSError:
                return
            await stream.decided


def _hold(there: Connection, port: int, paths: Paths) -> None:
    """The process: obeys one order after another until its parent ends it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_obey(there, _Streams(port, paths)))


async def _obey(there: Connection, streams: _Streams) -> None:
    loop = asyncio.get_running_loop()
    while True:
        order = await loop.run_in_executor(None, there.recv)
        there.send(await getattr(streams, order)())
