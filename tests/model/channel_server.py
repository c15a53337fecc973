"""A small server of the channel: each visit of a worker is a function that says and hears what the test wants."""

from __future__ import annotations

import json
import queue
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from socket import SHUT_RDWR
from typing import Any

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

SECONDS = 20.0


class Visit:
    """One channel, as its server sees it."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.first: dict[str, Any] = self.hear()

    def hear(self) -> dict[str, Any]:
        """Wait for the next message."""
        message: dict[str, Any] = json.loads(self.connection.recv(SECONDS))
        return message

    def hear_of(self, member: str) -> Any:
        """Wait for a message with this member, and return the member."""
        while True:
            message = self.hear()
            if member in message:
                return message[member]

    def say(self, **message: object) -> None:
        self.connection.send(json.dumps(message))

    def give(self, *names: str, picture: bytes = b"picture", **more: object) -> None:
        self.connection.send(frame(names, picture, **more))

    def close(self, code: int, reason: str = "") -> None:
        self.connection.close(code, reason)

    def send_half(self, data: bytes) -> None:
        """Send the first half of a message, and cut the connection."""
        raw = Frame(Opcode.BINARY, data).serialize(mask=False)
        self.connection.socket.sendall(raw[: len(raw) // 2])
        self.cut()

    def cut(self) -> None:
        self.connection.socket.shutdown(SHUT_RDWR)

    def end(self, *, mute: bool = False) -> int | None:
        """Answer, unless ``mute``, until the worker closes; return its close code."""
        try:
            while True:
                message = self.hear()
                if mute:
                    continue
                if "completions" in message:
                    self.say(outcomes=[[one["id"], "accepted"] for one in message["completions"]])
                if "renew" in message:
                    self.say(lost=[])
        except ConnectionClosed:
            return self.connection.close_code


def frame(names: Sequence[str], picture: bytes = b"picture", **more: object) -> bytes:
    blob = struct.pack(">II", 1, len(picture)) + picture
    entries = [{"id": name, "token": f"t-{name}", "top_k": 3, "size": len(blob)} for name in names]
    head = json.dumps({"predictions": entries, **more}).encode()
    return struct.pack(">I", len(head)) + head + blob * len(names)


class Server:
    """Answers the workers' visits one after another; what one returns, or raises, is in ``results``."""

    def __init__(self, visits: Sequence[Callable[[Visit], object] | tuple[int, str]]) -> None:
        self._visits = list(visits)
        self.results: queue.Queue[object] = queue.Queue()
        self.requests: list[Request] = []
        self.url = ""
        self.has: dict[str, bytes] = {}
        """What a plain GET of a path brings."""

    def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if request.path in self.has:
            return plain(self.has[request.path])
        match self._visits[0] if self._visits else (503, "no more visits"):
            case (int(status), str(detail)):
                del self._visits[:1]
                return connection.respond(HTTPStatus(status), json.dumps({"detail": detail}))
        return None

    def handle(self, connection: ServerConnection) -> None:
        visit = self._visits.pop(0)
        assert callable(visit)
        try:
            self.results.put(visit(Visit(connection)))
        except BaseException as error:  # noqa: BLE001 -- a failed assertion is shown by ``result``
            self.results.put(error)

    def result(self) -> object:
        """Wait for the end of the next visit, and return its result or raise its error."""
        found = self.results.get(timeout=SECONDS)
        if isinstance(found, BaseException):
            raise found
        return found


def plain(body: bytes) -> Response:
    """The answer to a request that opens no channel; the connection ends with it."""
    return Response(200, "OK", Headers({"Content-Length": str(len(body)), "Connection": "close"}), body)


@contextmanager
def serving(
    *visits: Callable[[Visit], object] | tuple[int, str], protocol: str | None = "tierserve.work.3"
) -> Iterator[Server]:
    server = Server(visits)
    with serve(
        server.handle,
        "127.0.0.1",
        0,
        process_request=server.process_request,
        subprotocols=[Subprotocol(protocol)] if protocol else None,
        compression=None,
        ping_interval=None,
        close_timeout=1,
    ) as listener:
        server.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join(SECONDS)
