"""The WebSocket of a worker: whole text messages come in, each bounded and counted while it arrives.

A child of Tornado's class, which keeps all of a message before anybody can refuse it, and makes a task of each write.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from tornado.iostream import StreamClosedError
from tornado.util import _websocket_mask
from tornado.websocket import WebSocketHandler, WebSocketProtocol13, _WebSocketParams

from server.blobs import Piece
from server.http.stream import Stream
from server.intake.memory import Held
from server.problems import Problem

log = logging.getLogger(__name__)

STOPS, BUSY = 1001, 1013
BAD_MESSAGE, TOKEN_DENIED, SILENT, ANOTHER, UNKNOWN_JOB = 4400, 4401, 4408, 4409, 4410
REASON_BYTES = 123  # RFC 6455, 5.5: what is left of a control frame
# A shorter message is not counted: the stream itself has as much of it in its buffer.
SMALL_BYTES, STEP_BYTES = 16 * 1024, 64 * 1024
FRAME_COST = 4 * 1024  # in bytes: as much of a turn is taken by reading any frame
MOST_PARTS = 1024  # of one call: IOV_MAX of Linux
TEXT, BINARY, CONTROL, CLOSE = 0x1, 0x2, 0x8, 0x8
LONGEST_CONTROL = 125
LAST_WORD_SECONDS = 2.0  # in which the worker takes what was sent before the channel is closed
_PLAIN = _WebSocketParams(ping_interval=None, ping_timeout=None, max_message_size=0, compression_options=None)


class Refused(Exception):
    """The channel must be closed with this code of the protocol; ``reason`` says why in words."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Messages(Protocol):
    """Who takes the messages of a worker."""

    def longest(self) -> int:
        """How many bytes a message may have."""

    def hold(self) -> Held:
        """Begin to count the memory of a message."""

    async def receive(self, text: bytes | bytearray) -> None:
        """Do what a message says. Raises ``Refused``, and ``StreamClosedError`` when the worker is gone."""

    async def took(self, size: int) -> None:
        """So many bytes have been taken; return when others on the event loop have had their turn."""


class Wire(WebSocketProtocol13):
    """The protocol of RFC 6455, without extensions, fragments and binary messages of the worker."""

    def __init__(self, handler: WebSocketHandler, messages: Messages) -> None:
        super().__init__(handler, False, _PLAIN)
        self._messages = messages

    def send(self, opcode: int, parts: Sequence[Piece]) -> asyncio.Future[None] | None:
        """Send a message; None if all of it has gone to the kernel. Raises ``StreamClosedError``."""
        if self.is_closing():
            raise StreamClosedError
        size = sum(map(len, parts))
        rest: list[Piece | memoryview] = [_head(opcode, size), *parts]
        if not self.stream.writing():
            rest = self._send_now(rest)
        return self.stream.write(b"".join(rest)) if rest else None

    def _send_now(self, parts: list[Piece | memoryview]) -> list[Piece | memoryview]:
        """Give to the kernel what it takes; returns the rest. Tornado would copy the pictures into one buffer first."""
        try:
            sent = self.stream.socket.sendmsg(parts[:MOST_PARTS])
        except (BlockingIOError, ConnectionError):  # of a lost connection, the stream tells when it writes the rest
            sent = 0
        rest: list[Piece | memoryview] = []
        for part in parts:
            if sent < len(part):
                rest.append(memoryview(part)[sent:] if sent else part)
            sent = max(0, sent - len(part))
        return rest

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        """As Tornado's, with a reason of any length."""
        short = None if reason is None else reason.encode("utf-8", "replace")[:REASON_BYTES].decode("utf-8", "ignore")
        super().close(code, short)

    async def _receive_frame_loop(self) -> None:
        try:
            while not self.client_terminated:
                await self._receive_frame()
        except Refused as refused:
            self.close(refused.code, str(refused))
            await self._leave()
        except StreamClosedError:
            pass
        except Exception:
            log.exception("a channel was closed for a fault of the server")
        finally:
            self._abort()
            self.handler.on_ws_connection_close(self.close_code, self.close_reason)

    async def _receive_frame(self) -> None:
        first, second = await self._read_bytes(2)
        opcode, size = first & self.OPCODE_MASK, second & 0x7F
        _check_head(first & ~self.OPCODE_MASK == self.FIN, opcode, size, is_masked=bool(second & 0x80))
        if size >= 126:
            size = int.from_bytes(await self._read_bytes(2 if size == 126 else 8))
        if size > (longest := self._messages.longest()):
            raise Refused(BAD_MESSAGE, f"the message has {size} bytes; {longest} are allowed")
        mask = await self._read_bytes(4)
        if size > SMALL_BYTES:
            await self._receive_long(mask, size)
        else:
            data = _websocket_mask(mask, await self._read_bytes(size))
            if opcode & CONTROL:
                # Tornado would decode the words of a closing worker, which may be anything.
                self._handle_message(opcode, data[:2] if opcode == CLOSE else data)
            elif not self.server_terminated:
                await self._messages.receive(data)
            await self._messages.took(size + FRAME_COST)

    async def _receive_long(self, mask: bytes, size: int) -> None:
        held, text = self._messages.hold(), bytearray()
        try:
            while len(text) < size:
                step = min(STEP_BYTES, size - len(text))
                held.take(step)
                text += _websocket_mask(mask, await self._read_bytes(step))
                await self._messages.took(step)
            if not self.server_terminated:
                await self._messages.receive(text)
        except Problem as problem:
            raise Refused(BUSY, str(problem)) from problem
        finally:
            held.release()

    async def _leave(self) -> None:
        """Close the connection so that the code arrives, also at a worker that still sends."""
        with suppress(StreamClosedError, TimeoutError):
            async with asyncio.timeout(LAST_WORD_SECONDS):
                await self.stream.write(b"")  # when it is written, so is all that came before it
        assert isinstance(self.stream, Stream)
        self.stream.close_gently()


def _check_head(is_plain: bool, opcode: int, size: int, *, is_masked: bool) -> None:
    if not is_masked:
        raise Refused(BAD_MESSAGE, "a frame of a client must be masked")
    if not is_plain:
        raise Refused(BAD_MESSAGE, "a message must come in one frame, and without extensions")
    if opcode & CONTROL:
        if size > LONGEST_CONTROL or opcode > 0xA:
            raise Refused(BAD_MESSAGE, "this control frame is not of RFC 6455")
    elif opcode != TEXT:
        raise Refused(BAD_MESSAGE, "a message of a worker must be text")


def _head(opcode: int, size: int) -> bytes:
    """The head of an unmasked frame: RFC 6455, 5.2."""
    first = WebSocketProtocol13.FIN | opcode
    if size < 126:
        return struct.pack("!BB", first, size)
    if size <= 0xFFFF:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)
