"""A port: accepts connections up to a number, and closes those that are silent for too long or in the way."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from tornado.httpserver import HTTPServer, _HTTPRequestContext
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream
from tornado.web import Application

from server.http.connections import Connection
from server.http.lingering import Lingering
from server.http.stream import Stream
from server.logs import Tally
from server.problems import Problem

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
REST_SECONDS = 0.2  # after accepting has failed
FULL_SECONDS = 0.1  # until room is looked for again
# One address may have so much of a port while others find no room: more of its uploads are closed for them.
GREEDY_SHARE = 0.1
CROWDED_SHARE = 0.75
FRESH_SECONDS = 0.1  # long enough for the request to be read
# Of all bodies together. Tornado lets each connection take as much before others have their turn.
TURN_BYTES = 256 * 1024
AT_ONCE = 32  # connections that are accepted before others on the loop have their turn


class Address:
    """The connections of one address. ``open`` has those that wait for their client, by whether for a body.

    The one that has waited longest comes first.
    """

    def __init__(self) -> None:
        self.count = 0
        self.open: dict[Connection, bool] = {}

    def longest(self, since: float, *, greedy: bool) -> Connection | None:
        """The connection that has waited longest, if it has since then.

        One that waits for a body is meant only if the address is greedy.
        """
        found = next((one for one, for_body in self.open.items() if greedy or not for_body), None)
        return found if found is not None and found.stream.moved_at <= since else None


class Listener(HTTPServer):
    """Serves an application to at most ``most`` connections at once.

    To make room for a new connection, one that waits for its client is closed, of the address that has most of them.
    """

    def initialize(  # type: ignore[override]
        self,
        application: Application,
        *,
        most: int,
        lingering: int,
        refused: Callable[[Problem, str, str], None],
        crowded: Callable[[], None] = lambda: None,
        **limits: Any,
    ) -> None:
        """As Tornado's; ``refused`` is told of each problem that was answered before there was a handler.

        ``lingering`` is how many connections may linger beside the ``most``.
        It gets the client's address and the request's id, too. ``crowded`` is told of each request while so many wait
        for an answer that there will soon be no room.
        """
        super().initialize(application, **limits)
        self.conn_params.header_timeout = None  # ``Connection.look`` ends what waits for too long
        self._loop, self._most, self._refused = IOLoop.current(), most, refused
        self._crowded, self.lingering = crowded, Lingering(lingering, self._loop.time)
        self._turn_left = TURN_BYTES
        self._doors: list[socket.socket] = []
        self._accepts = self._is_full = self._looks = False
        self._addresses: defaultdict[str, Address] = defaultdict(Address)
        self._served: set[Connection] = set()
        self._busy: set[Connection] = set()  # those of them that wait for an answer of ours
        clock = self._loop.time
        self._made_room = Tally(
            log, f"%d connections that waited for their clients were closed for new ones: {most} are served", clock
        )
        self._full = Tally(log, f"%d times new connections had to wait: none of {most} could make room", clock)
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

    async def close_all_connections(self) -> None:
        """As Tornado's, and after that give the clients of the last answers time to read them."""
        await super().close_all_connections()
        await self.lingering.stop()

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """Serve a connection."""
        assert isinstance(stream, Stream)
        context = _HTTPRequestContext(stream, address, self.protocol)
        connection = Connection(stream, self.conn_params, context, self)
        stream.linger = lambda: self.lingering.take(stream.socket, connection.address)
        self._connections.add(connection)
        self._served.add(connection)
        self._addresses[connection.address].count += 1
        self.silent(connection)  # now, as it begins only when the loop has its next turn
        connection.start_serving(self)

    def silent(self, connection: Connection) -> None:
        """As ``Door`` says."""
        self._wait_for(connection, for_body=False)

    def receiving(self, connection: Connection) -> None:
        """As ``Door`` says."""
        self._wait_for(connection, for_body=True)

    def under_way(self, connection: Connection) -> None:
        """As ``Door`` says."""
        if connection in self._served:
            self._addresses[connection.address].open.pop(connection, None)
            self._busy.add(connection)
            if len(self._busy) > CROWDED_SHARE * self._most:
                self._crowded()

    def streaming(self, connection: Connection) -> None:
        """As ``Door`` says. Event streams have a number of their own, so they take no room from requests."""
        self._forget(connection)

    async def took(self, size: int) -> None:
        """As ``Door`` says."""
        if self._turn_left == TURN_BYTES:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._turn_left -= size
        while self._turn_left <= 0:  # noqa: ASYNC110 (for one turn of the loop)
            await asyncio.sleep(0)

    def _next_turn(self) -> None:
        self._turn_left = TURN_BYTES

    def refused(self, problem: Problem, address: str, request_id: str) -> None:
        """As ``Door`` says."""
        self._refused(problem, address, request_id)

    def on_close(self, server_conn: object) -> None:
        """Called when a connection has ended."""
        super().on_close(server_conn)
        assert isinstance(server_conn, Connection)
        self._forget(server_conn)

    def _wait_for(self, connection: Connection, *, for_body: bool) -> None:
        if connection in self._served:
            address = self._addresses[connection.address]
            self._busy.discard(connection)
            address.open.pop(connection, None)
            address.open[connection] = for_body
            self._made_place()

    def _forget(self, connection: Connection) -> None:
        """Count a connection no longer, because it has ended or is about to."""
        if connection in self._served:
            self._served.remove(connection)
            self._busy.discard(connection)
            address = self._addresses[connection.address]
            address.open.pop(connection, None)
            address.count -= 1
            if not address.count:
                del self._addresses[connection.address]
            self._made_place()

    def _made_place(self) -> None:
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
            is_full = len(self._served) >= self._most
            # What has just been accepted may have sent something that is not read yet.
            longest = self._longest(self._loop.time() - FRESH_SECONDS) if is_full else None
            if is_full and longest is None:
                self._full.add()
                self._is_full = True
                self._pause()
                self._loop.call_later(FULL_SECONDS, self._resume)
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
            if longest is not None:
                self._made_room.add()
                self._forget(longest)
                longest.give_way()
            self.handle_stream(Stream(accepted), address)

    def _longest(self, since: float) -> Connection | None:
        """The connection that makes room, if one can that has waited since then."""
        found, most = None, 0
        for address in self._addresses.values():
            longest = address.longest(since, greedy=address.count > GREEDY_SHARE * self._most)
            if longest is not None and address.count > most:
                found, most = longest, address.count
        return found

    def _look(self) -> None:
        """Close what has been silent for too long, once a second until the last connection of a stopped port ends."""
        now = self._loop.time()
        for connection in list(self._connections):
            assert isinstance(connection, Connection)
            connection.look(now)
        self.lingering.look()
        for tally in (self._made_room, self._full, self._failed):
            tally.say()
        self._looks = bool(self._doors or self._connections or self.lingering.count)
        if self._looks:
            self._loop.call_later(LOOK_SECONDS, self._look)
