"""Brings a long body from the event loop to the thread that writes it, some pieces at a time."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator

PIECE_BYTES = 1024 * 1024
PIECES = 3  # that wait for the thread
SILENT_SECONDS = 120.0  # longer than the slowest body that is taken needs for a piece


class CutShort(Exception):
    """The body ended before all of it had come."""


class Funnel:
    """A thread iterates over the body, while the event loop, on which this is made, calls the other methods."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: queue.SimpleQueue[bytes | CutShort | None] = queue.SimpleQueue()
        self._room = asyncio.Event()
        self._last = bytearray()
        self._waiting = 0
        self._unread = False

    def add(self, chunk: bytes) -> None:
        """Take a part of the body, which ``room`` must be awaited after."""
        self._last += chunk
        if len(self._last) >= PIECE_BYTES and not self._unread:
            self._pass_on()

    async def room(self) -> None:
        """Return when the thread has taken enough, or takes nothing any more."""
        while self._waiting >= PIECES and not self._unread:
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        """All has come."""
        if self._last:
            self._pass_on()
        self._pieces.put(None)

    def break_off(self) -> None:
        """No more comes: the thread's next piece raises ``CutShort``, unless it has got all."""
        self._pieces.put(CutShort())

    def unread(self) -> None:
        """The thread takes nothing any more; what comes is dropped."""
        self._unread = True
        self._last.clear()
        self._room.set()

    def __iter__(self) -> Iterator[bytes]:
        """The pieces of the body, for the thread. Raises ``CutShort``."""
        while True:
            try:
                piece = self._pieces.get(timeout=SILENT_SECONDS)
            except queue.Empty:
                raise CutShort from None
            if piece is None:
                return
            if isinstance(piece, CutShort):
                raise piece
            self._loop.call_soon_threadsafe(self._taken)
            yield piece

    def _pass_on(self) -> None:
        self._pieces.put(bytes(self._last))
        self._last.clear()
        self._waiting += 1

    def _taken(self) -> None:
        self._waiting -= 1
        self._room.set()
