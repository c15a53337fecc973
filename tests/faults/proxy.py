"""A TCP proxy before the server that can cut connections in the middle of bodies and answers."""

from __future__ import annotations

import random
import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType

RESET = struct.pack("ii", 1, 0)  # SO_LINGER with 0 s: close sends a reset
CHUNK = 16384
BODY_CUT, ANSWER_CUT = 60_000, 800  # about as many bytes as a picture, and as an answer, have


class Proxy:
    """Listens on a port of its own. While ``cutting``, it resets each new connection after a random number of bytes.

    While ``most`` is not 0, it resets each new connection after so many bytes of the server.
    """

    def __init__(self, target: int, seed: int) -> None:
        self._target = ("127.0.0.1", target)
        self._chance = random.Random(f"{seed} proxy")
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listener.getsockname()[1]
        self.cutting = False
        self.most = 0
        self._links: set[_Link] = set()
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()
        for link in self._links:
            link.cut()
            link.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, 5)
            except OSError:
                _reset(client)
                client.close()
                continue
            server.settimeout(None)  # the timeout was for connecting; a server may be silent for longer
            body = self._chance.random() < 0.5
            up = self._chance.randrange(1, BODY_CUT) if self.cutting and body else 0
            down = self._chance.randrange(1, ANSWER_CUT) if self.cutting and not body else self.most
            self._links = {link for link in self._links if link.open()} | {_Link(client, server, up, down)}


class _Link:
    """A client's connection and the one to the server. Both are closed when both sides are done, or both are reset."""

    def __init__(self, client: socket.socket, server: socket.socket, up: int, down: int) -> None:
        self._ends = (client, server)
        self._left = 2
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._pump, args=(client, server, up), daemon=True),
            threading.Thread(target=self._pump, args=(server, client, down), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def open(self) -> bool:
        """Whether data may still come."""
        return any(thread.is_alive() for thread in self._threads)

    def cut(self) -> None:
        """Reset both connections."""
        with self._lock:
            for end in self._ends if self._left else ():
                _reset(end)

    def join(self) -> None:
        """Return when both are closed."""
        for thread in self._threads:
            thread.join(10)

    def _pump(self, source: socket.socket, sink: socket.socket, most: int) -> None:
        """Pass on what comes. With ``most``, cut after so many bytes."""
        passed = 0
        try:
            while chunk := source.recv(min(CHUNK, most - passed) if most else CHUNK):
                sink.sendall(chunk)
                passed += len(chunk)
                if passed == most:
                    raise ConnectionResetError
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.cut()
        with self._lock:
            self._left -= 1
            for end in self._ends if not self._left else ():
                end.close()


def _reset(end: socket.socket) -> None:
    """Wake the thread that reads from a connection, and make its later close a reset."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with suppress(OSError):
        end.shutdown(socket.SHUT_RD)
