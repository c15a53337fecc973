"""A port: accepts connections up to a number, and closes those that are silent for too long or in the way."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from typing import Any

from tornado.httpserver import HTTPServer, _HTTPRequestContext
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream
from tornado.web import Application

from server.http.connections import Connection, Stream
from server.logs import Tally
from server.problems import Problem

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
REST_SECONDS = 0.2  # after accepting has failed
AT_ONCE = 32  # connections that are accepted before others on the loop have their turn


class Listener(HTTPServer):
    """Serves an application to at most ``most`` connections at once."""

    def initialize(  # type: ignore[override]
        self, application: Application, *, most: int, refused: Callable[[Problem], None], **limits: Any
    ) -> None:
        """As Tornado's; ``refused`` is told of each problem that was answered before there was a handler."""
        super().initialize(application, **limits)
        self.conn_params.header_timeout = None  # ``Connection.look`` ends what waits for too long
        self._loop, self._most, self._refused = IOLoop.current(), most, refused
        self._doors: list[socket.socket] = []
        self._accepts = self._is_full = self._looks = False
        # Without a request under way; the one that has been silent longest comes first.
        self._silent: dict[Connection, None] = {}
        self._busy: set[Connection] = set()
        clock = self._loop.time
        self._made_room = Tally(log, f"%d silent connections were closed for new ones: {most} are served", clock)
        self._full = Tally(log, f"%d times new connections had to wait: {most} have requests under way", clock)
        self._failed = Tally(log, "%d times a connection could not be accepted, last because of: %s", clock)

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Begin to accept connections on these sockets."""
        self._pause()
        self._doors.extend(sockets)
        self._resume()
        if not self._looks:
            self._looks = True
            self._loop.call_later(LOOK_SECONDS, self._look)

    def stop(self) -> None:
        """Accept no more connections."""
        self._pause()
        for door in self._doors:
            door.close()
        self._doors = []

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """Serve a connection."""
        assert isinstance(stream, Stream)
        context = _HTTPRequestContext(stream, address, self.protocol)
        connection = Connection(stream, self.conn_params, context, self)
        self._connections.add(connection)
        self._silent[connection] = None  # now, as it begins only when the loop has its next turn
        connection.start_serving(self)

    def silent(self, connection: Connection) -> None:
        """As ``Door`` says."""
        self._busy.discard(connection)
        self._silent.pop(connection, None)
        if not connection.stream.closed():
            self._silent[connection] = None
        if self._is_full:
            self._resume()

    def under_way(self, connection: Connection) -> None:
        """As ``Door`` says."""
        self._silent.pop(connection, None)
        self._busy.add(connection)

    def refused(self, problem: Problem) -> None:
        """As ``Door`` says."""
        self._refused(problem)

    def on_close(self, server_conn: object) -> None:
        """Called when a connection has ended."""
        super().on_close(server_conn)
        assert isinstance(server_conn, Connection)
        self._silent.pop(server_conn, None)
        self._busy.discard(server_conn)
        if self._is_full:
            self._resume()

    def _resume(self) -> None:
        self._is_full = False
        if not self._accepts:
            self._accepts = True
            for door in self._doors:
                self._loop.add_handler(door, self._accept, IOLoop.READ)

    def _pause(self) -> None:
        if self._accepts:
            self._accepts = False
            for door in self._doors:
                self._loop.remove_handler(door)

    def _accept(self, door: socket.socket, _: int) -> None:
        for _ in range(AT_ONCE):
            if len(self._busy) >= self._most:
                self._full.add()
                self._is_full = True
                self._pause()
                return
            try:
                accepted, address = door.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                # The socket stays readable, so that without a pause the loop would spin.
                self._failed.add(error.strerror)
                self._pause()
                self._loop.call_later(REST_SECONDS, self._resume)
                return
            if len(self._silent) + len(self._busy) >= self._most:
                self._made_room.add()
                self._close_longest_silent()
            self.handle_stream(Stream(accepted), address)

    def _close_longest_silent(self) -> None:
        longest = next(iter(self._silent))
        del self._silent[longest]
        longest.stream.close()

    def _look(self) -> None:
        """Close what has been silent for too long, once a second until the last connection of a stopped port ends."""
        now = self._loop.time()
        for connection in [*self._silent, *self._busy]:
            connection.look(now)
        for tally in (self._made_room, self._full, self._failed):
            tally.say()
        self._looks = bool(self._doors or self._connections)
        if self._looks:
            self._loop.call_later(LOOK_SECONDS, self._look)
