"""What attackers say over raw connections, from several addresses of the loopback network."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

PIECE = 64 * 1024
CONNECT_SECONDS, ANSWER_SECONDS = 2.0, 2.0
# What one attack may send in all, so that a load stays bounded whatever the server does.
BYTES_MOST = 400 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """The ports of the server that is attacked, and the tier at which the attacks aim."""

    port: int
    internal_port: int
    tier: str = "free"


@dataclass(slots=True)
class Tally:
    """What an attack has done. ``statuses`` counts the answers; 0 stands for a connection that brought none."""

    connections: int = 0
    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)


class Wire:
    """One connection of an attacker."""

    def __init__(self, port: int, source: str, tally: Tally) -> None:
        self._port, self._source, self._tally = port, source, tally

    async def __aenter__(self) -> Self:
        # Not wait_for(): before Python 3.12 it loses a cancellation that comes together with the result.
        async with asyncio.timeout(CONNECT_SECONDS):
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self._port, local_addr=(self._source, 0)
            )
        self._tally.connections += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Send bytes. When the attack has sent all that it may, this waits until it is cancelled."""
        if self._tally.sent + len(data) > BYTES_MOST:
            await asyncio.Event().wait()
        self._tally.sent += len(data)
        self._writer.write(data)
        await self._writer.drain()

    async def send_all(self, pieces: Iterable[bytes]) -> None:
        """Send pieces one after another."""
        for piece in pieces:
            await self.send(piece)

    async def answer(self, seconds: float = ANSWER_SECONDS) -> int:
        """Wait for an answer and return its status; 0 if none comes."""
        try:
            async with asyncio.timeout(seconds):
                line = await self._reader.readline()
        except (OSError, TimeoutError, ValueError):
            line = b""
        words = line.split()
        status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        self._tally.statuses[status] += 1
        return status

    async def location(self) -> str:
        """Wait for an answer and return where it says that the prediction is; empty if it does not say."""
        async with asyncio.timeout(ANSWER_SECONDS):
            while line := (await self._reader.readline()).strip():
                name, _, value = line.decode("latin-1").partition(":")
                if name.lower() == "location":
                    return value.strip()
        return ""

    def deafen(self) -> None:
        """Take nothing of what the server sends from now on, and have the kernel keep little of it."""
        assert isinstance(self._writer.transport, asyncio.Transport)
        self._writer.transport.pause_reading()
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)

    async def silence(self) -> None:
        """Say nothing until the server closes the connection."""
        await self._reader.read()


def head(method: str, path: str, headers: Mapping[str, object]) -> bytes:
    """A request's head."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def frame(data: bytes, first: int = 0x81) -> bytes:
    """A WebSocket's frame of a client, masked with zeros; ``first`` is its first byte, here a whole text message."""
    if len(data) < 126:
        size = bytes([0x80 | len(data)])
    elif len(data) < 1 << 16:
        size = b"\xfe" + len(data).to_bytes(2)
    else:
        size = b"\xff" + len(data).to_bytes(8)
    return bytes([first]) + size + bytes(4) + data


def chunk(data: bytes) -> bytes:
    """A piece of a body in chunks."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def pieces(size: int, unit: bytes) -> Iterable[bytes]:
    """``unit`` again and again, ``size`` bytes in all, in pieces as they are sent."""
    block = unit * max(1, PIECE // len(unit))
    for left in range(size, 0, -len(block)):
        yield block[:left]
