"""One client's connection: it says when it is silent, and answers as a problem what has no handler yet.

Children of Tornado's classes, which would write a bare "400 Bad Request", or nothing, and log a line for each.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import (
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
)
from tornado.iostream import IOStream, StreamClosedError, UnsatisfiableReadError

from server.http import heads
from server.http.errors import fields_of
from server.http.stream import Stream
from server.problems import Problem

log = logging.getLogger(__name__)

IDLE_SECONDS = 75.0  # without a byte of a next request
HEAD_SECONDS = 5.0  # from the first byte of a head to its last
TAKING_SECONDS = 60.0  # in which a client takes nothing of an answer that is being sent
# The kernel keeps no more of an event stream for a reader that takes nothing; of its own accord it would keep MiB.
STREAM_KERNEL_BYTES = 64 * 1024
GAVE_WAY = "your address has many uploads under way, and other clients found no room: send the request again"


class Door(Protocol):
    """Who looks after the connections of a port."""

    def silent(self, connection: Connection) -> None:
        """The connection has no request under way, and something or nothing of the next one has come just now."""

    def under_way(self, connection: Connection) -> None:
        """The head of a request is complete, and so is its body if ``receiving`` was called."""

    def receiving(self, connection: Connection) -> None:
        """The body of a request is to come."""

    def streaming(self, connection: Connection) -> None:
        """The answer that is being sent has no end in sight, and is the last one."""

    async def took(self, size: int) -> None:
        """So many bytes of a body have been taken; return when others on the event loop have had their turn."""

    def refused(self, problem: Problem, address: str, request_id: str) -> None:
        """A request without a handler was answered with this."""


class Exchange(HTTP1Connection):
    """One request and its answer."""

    def __init__(self, connection: Connection, params: HTTP1ConnectionParameters, context: object | None) -> None:
        super().__init__(connection.stream, False, params, context)
        self.connection = connection
        self._expects = False
        connection.stream.unreadable = self._say_unreadable

    def _parse_headers(self, data: bytes) -> tuple[str, HTTPHeaders]:
        line, headers = heads.read(data)
        self.connection.begin()
        if headers.get("Expect", "").lower() == "100-continue":
            self._expects = line.endswith("HTTP/1.1")
            # Tornado knows lower case only, and would send "100 Continue" even after an answer.
            headers["Expect"] = "100-Continue"
        return line, headers

    async def _read_message(self, delegate: HTTPMessageDelegate) -> bool:
        try:
            return await super()._read_message(delegate)
        except Problem as problem:
            if not self.is_answered:
                await self.connection.refuse(problem)
            self.close()
            return False

    def close(self) -> None:
        """As Tornado's, which is called when the last answer has been sent."""
        if self.stream is not None and not self._read_finished:
            self.connection.stream.close_gently()
        super().close()

    async def _deliver_body(self, delegate: HTTPMessageDelegate, data: bytes) -> None:
        await super()._deliver_body(delegate, data)
        await self.connection.took(len(data))

    def _read_body(self, code: int, headers: HTTPHeaders, delegate: HTTPMessageDelegate) -> Awaitable[None] | None:
        """Called when the handler is ready for the body."""
        if self._expects and self._response_start_line is None and headers.get("Content-Length") != "0":
            self.stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            reading = super()._read_body(code, headers, delegate)
        except HTTPInputError as error:
            raise _bad_body(error) from error
        return None if reading is None else self._framed(reading)

    async def _framed(self, reading: Awaitable[None]) -> None:
        """Read a body whose framing may be broken. Raises ``Problem``."""
        self.connection.receive()
        try:
            await reading
        except HTTPInputError as error:
            raise _bad_body(error) from error
        finally:
            self.connection.begin()

    @property
    def receives(self) -> bool:
        """Whether a body is still coming."""
        return self._request_start_line is not None and not self._read_finished

    @property
    def is_answered(self) -> bool:
        """Whether an answer has begun."""
        return self._response_start_line is not None

    def last(self, closed: Callable[[], None]) -> None:
        """The answer is an event stream, after which the connection is closed. Call it before the head is sent.

        ``closed`` is called when the connection is: while a reader is slow, that is later than the end of the stream.
        """
        self._disconnect_on_finish = True
        self.stream.set_nodelay(True)
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STREAM_KERNEL_BYTES)
        self.connection.stream_events(closed)

    def detach(self) -> IOStream:
        """As Tornado's: from now on the connection is no longer one of HTTP, but it still counts as one of its port."""
        self.connection.is_upgraded = True
        return super().detach()

    def _say_unreadable(self) -> None:
        if not self.is_answered:
            self.connection.send(_bad_body("the size of a chunk has too many digits"))


class Connection(HTTP1ServerConnection):
    """The requests of one client, one after another. ``begun_at`` is when the first byte of a head came.

    When it ``is_upgraded`` (to a WebSocket), there are none any more. ``farewell`` is called before it is closed then,
    because the server stops.
    """

    stream: Stream

    def __init__(self, stream: Stream, params: HTTP1ConnectionParameters, context: object, door: Door) -> None:
        super().__init__(stream, params, context)
        self._door, self._waits = door, True
        self.address = getattr(context, "remote_ip", None) or ""
        self.begun_at: float | None = None
        self.is_upgraded = self._streams = False
        self._closed: Callable[[], None] = lambda: None
        self.farewell: Callable[[], None] = lambda: None
        self._ended: Callable[[], None] | None = None
        self._exchange: Exchange | None = None
        stream.came = self._came

    def begin(self) -> None:
        """The head of a request is complete, and so is its body if ``receive`` was called."""
        self._waits = False
        self._door.under_way(self)

    def receive(self) -> None:
        """The body of a request is to come."""
        self._door.receiving(self)

    def stream_events(self, closed: Callable[[], None]) -> None:
        """The answer is an event stream; ``closed`` is called when the connection is."""
        self._streams, self._closed = True, closed
        self._door.streaming(self)

    async def took(self, size: int) -> None:
        """So many bytes of a body have been taken; return when more may be."""
        await self._door.took(size)

    def look(self, now: float) -> None:
        """Close the connection if its client has been silent for too long."""
        silence = now - self.stream.moved_at
        if self.stream.writing():
            if now - self.stream.went_at > TAKING_SECONDS:
                self.stream.close()
        elif not self._waits:
            return
        elif self.begun_at is None:
            if silence > IDLE_SECONDS:
                self.stream.close()
        elif now - self.begun_at > HEAD_SECONDS:
            detail = f"the head of the request was not complete after {HEAD_SECONDS:g} s"
            self.send(Problem(HTTPStatus.REQUEST_TIMEOUT, "head_too_slow", detail, limit_seconds=HEAD_SECONDS))
            self.stream.close_gently()

    def give_way(self) -> None:
        """Close the connection for another one. A client whose body is still coming is told to send it again."""
        if self._exchange is None or not self._exchange.receives:
            return self.stream.close()
        if not self._exchange.is_answered:
            self.send(Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", GAVE_WAY, retry_after=1))
        return self.stream.close_gently()

    async def refuse(self, problem: Problem) -> None:
        """Send a problem before the connection is closed."""
        self.begun_at = math.inf  # there is no other request to wait for
        with suppress(StreamClosedError):  # the client hung up meanwhile
            await self.send(problem)

    def send(self, problem: Problem) -> Awaitable[None]:
        """Send a problem for which there is no handler."""
        request_id = secrets.token_hex(8)
        self._door.refused(problem, self.address, request_id)
        body = problem.document(request_id)
        return self.stream.write(_answer_head(problem, request_id, len(body)) + body)

    async def _server_request_loop(self, delegate: HTTPServerConnectionDelegate) -> None:
        """As Tornado's, which would make connections of its own class."""
        try:
            while True:
                self.begun_at, self._waits = None, True
                self._door.silent(self)
                exchange = self._exchange = Exchange(self, self.params, self.context)
                goes_on = await exchange.read_response(delegate.start_request(self, exchange))
                if self._streams or not goes_on:  # what came after the request for a stream is not looked at
                    return
                await asyncio.sleep(0)  # lets others have their turn when requests come faster than they are answered
        except (StreamClosedError, UnsatisfiableReadError, asyncio.CancelledError):
            return
        except Exception:
            log.exception("a connection was closed for a fault of the server")
            self.stream.close()
        finally:
            self._ended = lambda: delegate.on_close(self)
            if self.is_upgraded and not self.stream.closed():
                self.stream.set_close_callback(self._end)
            else:
                self._end()

    async def close(self) -> None:
        """As Tornado's."""
        if self.is_upgraded:
            self.farewell()
        if self._exchange is not None and self._exchange.receives and self._exchange.is_answered:
            self.stream.close_gently()
        await super().close()
        self._end()

    def _end(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()
            self._closed()

    def _came(self) -> None:
        if self._streams:  # nothing that comes will be read, and it would be kept for as long as the stream is open
            self.stream.io_loop.add_callback(self.stream.close)
        if self._waits:
            if self.begun_at is None:
                self.begun_at = self.stream.moved_at
            self._door.silent(self)


def _bad_body(error: HTTPInputError | str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "bad_chunk", f"the body cannot be read: {error}"[:300])


def _answer_head(problem: Problem, request_id: str, length: int) -> bytes:
    lines = [
        f"HTTP/1.1 {int(problem.status)} {problem.status.phrase}",
        *(f"{name}: {value}" for name, value in fields_of(problem, ()).items()),
        "Content-Type: application/problem+json",
        f"Content-Length: {length}",
        f"X-Request-Id: {request_id}",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode()
