"""Connections that were answered while their clients still sent: what still comes is received and dropped for a while.

Most clients read their answer only when they have sent all of a request. If the server closed the connection before
that, its system would answer what still comes with a reset, at which a client forgets the answer. RFC 9112, 9.6, and
nginx's ``lingering_close`` describe the same way out.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

PIECE_BYTES = 64 * 1024
LINGER_BYTES = 256 * 1024 * 1024  # of one request; more than a tier takes as the settings are shipped
LINGER_SECONDS = 120.0
SILENT_SECONDS = 5.0
STOP_SECONDS = 3.0  # for all of them, when the server stops
STOP_LOOK_SECONDS = 0.02


@dataclass(slots=True)
class _One:
    address: str
    ends_at: float
    heard_at: float
    left: int


class Lingering:
    """Lives on the event loop. At most ``most`` connections linger at once, and they have no other memory than this.

    For a further one the oldest is closed, of the address that has most of them.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = most, clock
        self._all: dict[socket.socket, _One] = {}  # the oldest comes first
        self._of_address: Counter[str] = Counter()
        self._dropped = memoryview(bytearray(PIECE_BYTES))

    @property
    def count(self) -> int:
        """How many connections linger."""
        return len(self._all)

    def take(self, answered: socket.socket, address: str) -> None:
        """Let a connection linger whose answer is on its way. Whoever has the socket closes it at once, as ever."""
        try:
            mine = answered.dup()  # the connection lasts until both are closed
        except OSError:  # no more files may be open
            return
        with suppress(OSError):  # the client has hung up; its socket is readable, and is closed when it is read
            mine.shutdown(socket.SHUT_WR)
        while self._all and len(self._all) >= self._most:
            greedy, _ = self._of_address.most_common(1)[0]
            self._end(next(sock for sock, one in self._all.items() if one.address == greedy))
        self._of_address[address] += 1
        now = self._clock()
        self._all[mine] = _One(address, now + LINGER_SECONDS, now, LINGER_BYTES)
        asyncio.get_running_loop().add_reader(mine, self._drop, mine)

    def look(self) -> None:
        """Close those that have lingered or been silent for too long. Call it about once a second."""
        now = self._clock()
        for sock, one in list(self._all.items()):
            if now > one.ends_at or now - one.heard_at > SILENT_SECONDS:
                self._end(sock)

    async def stop(self) -> None:
        """Return when all have ended; the last ones are closed after ``STOP_SECONDS``."""
        end = self._clock() + STOP_SECONDS
        while self._all and self._clock() < end:  # noqa: ASYNC110 (once in a life)
            await asyncio.sleep(STOP_LOOK_SECONDS)
        for sock in list(self._all):
            self._end(sock)

    def _drop(self, sock: socket.socket) -> None:
        one = self._all[sock]
        try:
            size = sock.recv_into(self._dropped)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        one.left -= size
        one.heard_at = self._clock()
        if not size or one.left <= 0:
            self._end(sock)

    def _end(self, sock: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(sock)
        sock.close()
        address = self._all.pop(sock).address
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]
