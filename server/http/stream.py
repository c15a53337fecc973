"""The socket of a connection: it says when bytes come and go, and closes so that the last answer arrives.

A child of Tornado's class.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from tornado.iostream import IOStream, UnsatisfiableReadError

from server.http import heads


class Stream(IOStream):
    """A socket that calls ``came`` when bytes have come; ``moved_at`` is when the last ones came or went.

    ``went_at`` is when the last ones went, or began to wait until they can go. It calls ``unreadable`` before it closes
    because a line of a body is too long. ``linger`` is called before it is closed while its client may still send.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.came: Callable[[], None] = lambda: None
        self.unreadable: Callable[[], None] = lambda: None
        self.linger: Callable[[], None] = lambda: None
        self.moved_at = self.went_at = self.io_loop.time()

    def write(self, data: bytes | memoryview) -> asyncio.Future[None]:
        """As Tornado's."""
        if not self.writing():
            self.went_at = self.io_loop.time()
        return super().write(data)

    def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> Awaitable[bytes]:
        """Read a head, or so much of it that it is too long; past ``max_bytes`` Tornado would close unanswered."""
        head = super().read_until_regex(heads.END)
        if self._read_buffer_size:  # some of it came while the last request was answered
            self.came()
        return head

    def close(self, exc_info: Any = False) -> None:
        """As Tornado's."""
        if isinstance(exc_info, UnsatisfiableReadError) and not self.closed():
            self.unreadable()
            self.linger()
        super().close(exc_info)

    def close_gently(self) -> None:
        """Close after an answer that has been written, so that it reaches a client that still sends."""
        if not self.closed():
            self.linger()
        self.close()

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """As Tornado's."""
        count = super().read_from_fd(buf)
        if count:
            self.moved_at = self.io_loop.time()
            self.came()
        return count

    def write_to_fd(self, data: memoryview) -> int:
        """As Tornado's."""
        count = super().write_to_fd(data)
        self.moved_at = self.went_at = self.io_loop.time()
        return count
