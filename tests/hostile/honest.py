"""The honest clients' process: ``python -m tests.hostile.honest PORT PICTURE``.

Each kind of request is sent at its own pace, whether the earlier ones have been answered or not: a server that stands
still for a second is seen by all the requests of that second. Half of the requests use a connection that is kept, and
half of them come from an address that is also an attacker's. What was seen goes to standard output: a line when a
request begins, and a line when it ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.hostile.wire import head

APART, SHARED = "127.0.0.100", "127.0.0.1"
ANSWER_SECONDS = 45.0
MOST_AT_ONCE = 20
KEPT_MOST = 4

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class StaleConnection(Exception):
    """The server closed a connection that was kept before it read this request; a client sends it again."""


@dataclass(slots=True)
class Kind:
    """One kind of request and its pace."""

    name: str
    request: bytes
    seconds_between: float
    kept: dict[str, list[Stream]] = field(default_factory=lambda: {APART: [], SHARED: []})
    under_way: int = 0


class Honest:
    """Sends the requests of all kinds and writes down what came of them."""

    def __init__(self, port: int, picture: bytes) -> None:
        upload = {"Content-Type": "image/png", "Content-Length": len(picture)}
        self._port, self._numbers = port, count()
        self._kinds = [
            Kind("healthz", head("GET", "/healthz", {}), 0.04),
            Kind("premium", head("POST", "/img-classification/premium", upload) + picture, 0.25),
            Kind("free", head("POST", "/img-classification/free", upload) + picture, 0.35),
        ]

    async def run(self) -> None:
        """Ask until the process is ended."""
        async with asyncio.TaskGroup() as group:
            for kind in self._kinds:
                group.create_task(self._pace(kind, group))

    async def _pace(self, kind: Kind, group: asyncio.TaskGroup) -> None:
        due = time.monotonic()
        for number in count():
            due = max(due + kind.seconds_between, time.monotonic() - 1.0)
            await asyncio.sleep(due - time.monotonic())
            if kind.under_way < MOST_AT_ONCE:
                group.create_task(self._ask(kind, (APART, SHARED)[number // 2 % 2], keep=number % 2 == 0))

    async def _ask(self, kind: Kind, source: str, keep: bool) -> None:
        number, began = next(self._numbers), time.monotonic()
        tell(number=number, kind=kind.name, began=began, apart=source == APART)
        kind.under_way += 1
        seen: dict[str, Any] = {}
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                try:
                    seen = await self._once(kind, source, keep, kind.kept[source].pop() if kind.kept[source] else None)
                except StaleConnection:
                    seen = await self._once(kind, source, keep, None)
        except (OSError, EOFError, TimeoutError, StaleConnection) as error:
            seen = {"trouble": repr(error)}
        finally:
            kind.under_way -= 1
        tell(number=number, took=time.monotonic() - began, **seen)

    async def _once(self, kind: Kind, source: str, keep: bool, kept: Stream | None) -> dict[str, Any]:
        if kept is None or not keep:
            stream = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(source, 0))
            if kept is not None:
                kind.kept[source].append(kept)
                kept = None
        else:
            stream = kept
        try:
            status, headers = await _exchange(stream, kind.request, kept is not None)
        except BaseException:
            stream[1].transport.abort()
            raise
        if keep and headers.get("connection") != "close" and len(kind.kept[source]) < KEPT_MOST:
            kind.kept[source].append(stream)
        else:
            stream[1].close()
        return {"status": status, "retry": "retry-after" in headers}


async def _exchange(stream: Stream, request: bytes, kept: bool) -> tuple[int, Mapping[str, str]]:
    reader, writer = stream
    try:
        writer.write(request)
        first = await reader.readuntil(b"\r\n")
    except (OSError, EOFError) as error:
        if kept:
            raise StaleConnection from error
        raise
    headers = {}
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip().lower()
    await reader.readexactly(int(headers.get("content-length", 0)))
    return int(first.split()[1]), headers


def tell(**seen: Any) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(seen) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Ask the port of the first argument with the picture of the second."""
    asyncio.run(Honest(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()).run())


if __name__ == "__main__":
    main()
