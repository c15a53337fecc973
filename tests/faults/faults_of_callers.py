"""Faults of those who call a server: connections that break, clients that lie, false workers."""

from __future__ import annotations

import socket
from contextlib import suppress

import psutil
from websockets.exceptions import WebSocketException

from tests.channel import Channel, Closed, Refused
from tests.faults.fault import Fault
from tests.running import default_model

LIARS = 8


class Cuts(Fault):
    """Connections break in the middle of bodies and answers."""

    name, seconds = "cuts", 2.0

    def inject(self) -> None:
        self.scene.proxy.cutting = True

    def heal(self) -> None:
        self.scene.proxy.cutting = False


class Liars(Fault):
    """For a while, clients announce more than they send, or less than they send, or send nothing."""

    name, seconds = "liars", 2.0

    def inject(self) -> None:
        self._sockets: list[socket.socket] = []
        for _ in range(LIARS):
            with suppress(OSError):
                end = socket.create_connection(("127.0.0.1", self.scene.world.service.port), 2)
                self._sockets.append(end)
                end.sendall(self._words())

    def heal(self) -> None:
        for end in self._sockets:
            end.close()

    def _words(self) -> bytes:
        body = self.scene.pictures.make(self.chance).data
        head = "POST /img-classification/free HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        match self.chance.randrange(6):
            case 0:
                return head.encode()
            case 1:
                return f"{head}Content-Length: {len(body) + 1000}\r\n\r\n".encode() + body
            case 2:
                return f"{head}Content-Length: 5000000\r\n\r\n".encode()
            case 3:
                return f"{head}Content-Length: 100\r\nContent-Length: 200\r\n\r\n".encode() + body
            case 4:
                return f"{head}Transfer-Encoding: chunked\r\n\r\nfffff\r\n".encode() + body
            case _:
                return f"{head}Content-Length: -1\r\n\r\n".encode() + body


class Forgery(Fault):
    """Results come for predictions that their sender has not leased, with real workers' tokens and an invented one."""

    name = "forgery"

    def inject(self) -> None:
        world = self.scene.world
        ids = self._alive()[:4]
        tokens = ["free.tierserve-free-x.0"]
        for process in world.workers():
            with suppress(psutil.Error):
                tokens.append(process.environ()["TIERSERVE_TOKEN"])
        for worker in tokens:
            if not self._forge(worker, ids):
                return  # the server does not answer: each further try would only delay the healing of other faults

    def _alive(self) -> list[str]:
        return [path.name for path in (self.scene.world.state / "data" / "blobs").rglob("p*") if path.is_file()]

    def _forge(self, worker: str, ids: list[str]) -> bool:
        """Open a channel, which ends that of the real worker, and hand results in. False: the server did not answer."""
        try:
            channel = Channel(f"http://127.0.0.1:{self.scene.world.service.internal_port}", worker)
        except Refused:
            return True
        except (OSError, WebSocketException):
            return False
        try:
            channel.hold()
            for prediction in ids:
                self._hand_in(channel, prediction)
        except (Closed, TimeoutError, OSError, WebSocketException):
            return False
        finally:
            channel.break_off()
            channel.close()
        return True

    def _hand_in(self, channel: Channel, prediction: str) -> None:
        history, token = self.scene.history, f"{self.chance.getrandbits(128):032x}"
        facts = {"job": channel.token.split(".")[1], "id": prediction, "token": token, "score": 1.0, "forged": True}
        number = history.call("forger", "complete", **facts)
        result = {"id": prediction, "token": token, "results": [{"labels": [{"label": "forged", "score": 1.0}]}]}
        outcome = channel.complete([{**result, "model": default_model(), "predict_ms": 1}])[0]
        history.answer(number, status=200, outcome=outcome)
