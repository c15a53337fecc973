"""A worker's side of the channel for tests: it does one thing after another, and says only what it is told to."""

from __future__ import annotations

import json
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from socket import SHUT_RDWR
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.running import Answer

PROTOCOL = "tierserve.work.3"
ANSWER_SECONDS = 20.0
Lease = dict[str, Any]
"""A prediction as a frame describes it (``id``, ``token``, ``top_k``, ``size``), and its ``blob``."""


class Refused(Exception):
    """The server opened no channel; ``answer`` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status, answer.body)
        self.answer = answer


class Closed(Exception):
    """The channel is closed: ``code`` and ``reason`` as the server gave them; 1006 if it gave none."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class Channel:
    """An open channel. What the server said: ``outcomes``, ``lost``, ``renew``, ``log``, ``stopping`` and ``retire``.

    ``credits`` are those that have brought nothing yet, ``parts`` the bytes of each message of the last frame.

    What sends and receives raises ``Closed`` when the channel is closed, and ``TimeoutError`` when nothing comes.
    """

    def __init__(self, url: str, token: str, headers: Mapping[str, str] | None = None) -> None:
        """Open it at a server's internal port, such as ``http://127.0.0.1:8001``. Raises ``Refused``, ``OSError``."""
        self.token = token
        self.outcomes: dict[str, list[str]] = {}
        self.lost: list[list[str]] = []
        self.renew: float | None = None
        self.log = ""
        self.stopping, self.retire = False, ""
        self.credits = 0
        self.parts: list[int] = []
        self._leases: deque[Lease] = deque()
        self._large = b""
        self._open = ExitStack()
        try:
            opening = connect(
                f"{url.replace('http', 'ws', 1)}/work/channel",
                additional_headers={"Authorization": f"Bearer {token}", **(headers or {})},
                subprotocols=[Subprotocol(PROTOCOL)],
                compression=None,
                max_size=None,
                ping_interval=None,
                open_timeout=ANSWER_SECONDS,
                close_timeout=ANSWER_SECONDS,
                user_agent_header=None,
                proxy=None,
            )
            self.socket: ClientConnection = self._open.enter_context(opening)
        except InvalidStatus as error:
            response = error.response
            headers = {name.title(): value for name, value in response.headers.raw_items()}
            raise Refused(Answer(response.status_code, headers, bytes(response.body or b""))) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def say(self, message: Mapping[str, Any] | str | bytes) -> None:
        """Send a message; bytes are sent as a binary one."""
        try:
            self.socket.send(json.dumps(message) if isinstance(message, Mapping) else message)
        except ConnectionClosed as error:
            raise _closed(error) from error

    def hold(self, leases: Sequence[Lease] = ()) -> list[str]:
        """Renew these leases, which are all that are held; returns the ids of those that are lost.

        The first message of a channel must be this one. All results that were handed in before have their outcome then.
        """
        asked = len(self.lost) + 1
        self.say({"renew": pairs(leases), "token": self.token})
        self.receive_until(lambda: len(self.lost) >= asked)
        return self.lost[-1]

    def grant(self, more: int) -> None:
        """Ask for so many predictions more."""
        self.say({"credits": more})
        self.credits += more

    def lease(self, count: int = 1, seconds: float = ANSWER_SECONDS, quiet: float = ANSWER_SECONDS) -> list[Lease]:
        """Receive so many predictions, which were asked for; returns them as soon as they have come.

        Returns fewer if none comes within so many seconds, or if it is quiet for so long after the first.
        """
        with suppress(TimeoutError):
            while len(self._leases) < count:
                self.receive(quiet if self._leases else seconds)
        return [self._leases.popleft() for _ in range(min(count, len(self._leases)))]

    def complete(self, completions: Sequence[Mapping[str, Any]]) -> list[str]:
        """Hand in results, as the schema has them; returns their outcomes. It renews nothing."""
        known = {one["id"]: len(self.outcomes.get(one["id"], ())) for one in completions}
        self.say({"completions": list(completions), "renew": [], "token": self.token})
        self.receive_until(lambda: all(len(self.outcomes.get(key, ())) > count for key, count in known.items()))
        return [self.outcomes[one["id"]][-1] for one in completions]

    def release(self, leases: Sequence[Lease]) -> None:
        """Hand predictions back, and return when the server has them."""
        self.say({"release": pairs(leases)})
        self.hold()

    def receive(self, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Receive one message, or a whole frame, and note what it says; returns its JSON."""
        try:
            message = self._next(seconds)
            while isinstance(message, bytes) and not _is_whole(self._large + message):
                self._large += message
                message = self._next(seconds)
        except ConnectionClosed as error:
            raise _closed(error) from error
        if isinstance(message, bytes):
            frame, self._large = self._large + message, b""
            said: dict[str, Any] = _described(frame)
            leases = unframe(frame)
            self._leases += leases
            self.credits -= len(leases)
        else:
            said = json.loads(message)
        for key, outcome in said.get("outcomes", ()):
            self.outcomes.setdefault(key, []).append(outcome)
        self.lost += [said["lost"]] if "lost" in said else []
        self.renew = said.get("renew", self.renew)
        self.log = said.get("log", self.log)
        self.stopping = self.stopping or said.get("stopping", False)
        self.retire = self.retire or said.get("retire", "")
        return said

    def _next(self, seconds: float) -> str | bytes:
        message = self.socket.recv(seconds)
        if isinstance(message, bytes):
            self.parts = [*self.parts, len(message)] if self._large else [len(message)]
        return message

    def ended(self, seconds: float = ANSWER_SECONDS) -> Closed:
        """Receive until the server closes the channel; returns how."""
        end = time.monotonic() + seconds
        try:
            while True:
                self.receive(max(0.0, end - time.monotonic()))
        except Closed as closed:
            return closed

    def receive_until(self, enough: Callable[[], object]) -> None:
        """Receive until it is enough."""
        while not enough():
            self.receive()

    def close(self) -> None:
        """Close it in good order."""
        self._open.close()

    def break_off(self) -> None:
        """Lose the connection, as by a kill."""
        with suppress(OSError):
            self.socket.socket.shutdown(SHUT_RDWR)


def pairs(leases: Sequence[Lease]) -> list[list[str]]:
    """What names leases in a message."""
    return [[one["id"], one["token"]] for one in leases]


def unframe(frame: bytes) -> list[Lease]:
    """The predictions in a whole frame."""
    start, found = 4 + struct.unpack_from(">I", frame)[0], []
    for entry in _described(frame)["predictions"]:
        found.append({**entry, "blob": frame[start : start + entry["size"]]})
        start += entry["size"]
    assert start == len(frame)
    return found


def _described(frame: bytes) -> dict[str, Any]:
    (length,) = struct.unpack_from(">I", frame)
    found: dict[str, Any] = json.loads(frame[4 : 4 + length])
    return found


def _is_whole(frame: bytes) -> bool:
    (length,) = struct.unpack_from(">I", frame)
    size: int = sum(entry["size"] for entry in _described(frame)["predictions"])
    return len(frame) >= 4 + int(length) + size


def _closed(error: ConnectionClosed) -> Closed:
    return Closed(error.rcvd.code, error.rcvd.reason) if error.rcvd else Closed(1006, "")
