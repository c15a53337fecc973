"""The worker's side of the channel to the server: one connection, and what comes over it.

The channel is a WebSocket (RFC 6455) at ``/work/channel`` of the server's internal port, without compression. The
worker sends JSON in text messages; ``messages`` reads what the server sends. The protocol's bytes are made and read by
``websockets.client.ClientProtocol``. The socket is ours, because that package's own client takes one thread more, and
so one more thread switch for every picture.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidState, InvalidStatus
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Event, State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from model import messages
from model.messages import News

# A SYN that was lost with the server's old pod is retransmitted at ever longer intervals: a new attempt is faster.
CONNECT_SECONDS = 3.0
REPLY_SECONDS = 10.0
PROTOCOL = "tierserve.work.3"
READ_BYTES = 1 << 16
MESSAGE_BYTES = 16 << 20  # the server's longest message is a frame with 8 MiB of blobs
REJECTED, DENIED, UNKNOWN_JOB = 4400, 4401, 4410


class RequestRejected(Exception):
    """The server rejects what this worker sends as invalid; sending it again would not help."""


class Dismissed(Exception):
    """The server does not know this worker's token or Job (any more); the worker should end."""


class ChannelLost(Exception):
    """The channel could not be opened, or is closed; a new one may be opened."""


class Channel:
    """A connection to the server. One thread receives; any thread may send and close.

    ``url`` is the server's, such as ``http://127.0.0.1:8001``. The constructor opens the channel; it raises
    ``Dismissed``, ``RequestRejected`` or ``ChannelLost``.
    """

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.server = f"{address[0]}:{address[1]}"
        uri = parse_uri(f"ws://{parts.netloc}/work/channel")
        self._protocol = ClientProtocol(uri, subprotocols=[Subprotocol(PROTOCOL)], max_size=MESSAGE_BYTES)
        self._lock = threading.Lock()  # of the protocol's state, and of the order of what is sent
        self._events: deque[Event] = deque()
        self._coming: messages.Frame | None = None
        try:
            self._socket = socket.create_connection(address, CONNECT_SECONDS)
        except OSError as error:
            raise ChannelLost(f"no connection to {self.server}: {error}") from error
        try:
            self._open(token)
        except BaseException:
            self._socket.close()
            raise

    def receive(self, seconds: float) -> News:
        """Wait for the next message, or for the last one of a large frame, and return what it says.

        Raises ``ChannelLost`` also when nothing comes for so many seconds, and ``Dismissed`` and ``RequestRejected``.
        """
        self._socket.settimeout(seconds)
        while True:
            event = self._next_event()
            assert isinstance(event, Frame)
            if event.opcode is Opcode.CLOSE:
                raise _closed(Close.parse(event.data))
            if event.opcode in (Opcode.PING, Opcode.PONG):
                continue
            try:
                news = self._news(event)
            except messages.WRONG as error:
                raise ChannelLost(f"{self.server} sent what is not of the protocol: {error!r}") from error
            if news is not None:
                return news

    def send(self, message: dict[str, Any]) -> None:
        """Send a message. Raises ``ChannelLost``; then the message may have arrived or not."""
        data = json.dumps(message, separators=(",", ":")).encode()
        with self._lock:
            try:
                self._protocol.send_text(data)
                self._flush()
            except (InvalidState, OSError) as error:
                self._shut()
                raise ChannelLost(f"cannot send to {self.server}: {error}") from error

    def close(self) -> None:
        """Say goodbye, and end the connection; a thread that receives sees ``ChannelLost``."""
        with self._lock, suppress(InvalidState, OSError):
            self._protocol.send_close(1000)
            self._flush()
        self._shut()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        with self._lock:
            self._socket.close()

    def _open(self, token: str) -> None:
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(REPLY_SECONDS)
        request = self._protocol.connect()
        request.headers["Authorization"] = f"Bearer {token}"
        self._protocol.send_request(request)
        try:
            self._flush()
            while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
                self._read()
        except OSError as error:
            raise ChannelLost(f"no answer from {self.server}: {error}") from error
        refusal = self._protocol.handshake_exc
        if isinstance(refusal, InvalidStatus):
            raise _refused(refusal.response.status_code, bytes(refusal.response.body or b""))
        if refusal is not None:
            raise ChannelLost(f"{self.server} opens no WebSocket: {refusal}")
        if self._protocol.subprotocol != PROTOCOL:
            raise RequestRejected(f"{self.server} does not speak {PROTOCOL}")
        self._events.popleft()  # the answer to the request

    def _next_event(self) -> Event:
        try:
            while not self._events:
                if self._protocol.state is State.CLOSED:
                    raise ChannelLost(f"{self.server} closed the connection: {self._protocol.parser_exc}")
                self._read()
        except OSError as error:
            raise ChannelLost(f"nothing from {self.server}: {error}") from error
        return self._events.popleft()

    def _read(self) -> None:
        data = self._socket.recv(READ_BYTES)
        with self._lock:
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            self._events += self._protocol.events_received()
            self._flush()
            if self._protocol.parser_exc is not None:  # what follows would be read and dropped
                self._shut()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:  # b"" stands for the end of what we send; we close the socket then
                self._socket.sendall(data)

    def _shut(self) -> None:
        # Closing the socket would not wake a thread that is blocked in recv(); shutting it down does.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _news(self, frame: Frame) -> News | None:
        if not frame.fin:
            raise ValueError("a message in fragments")
        if frame.opcode is Opcode.TEXT:
            return messages.read(frame.data)
        if self._coming is None:
            self._coming = messages.Frame(frame.data)
        else:
            self._coming.add(frame.data)
        if self._coming.missing():
            return None
        whole, self._coming = self._coming, None
        return whole.news()


def _refused(status: int, answer: bytes) -> Exception:
    try:
        detail = str(json.loads(answer).get("detail", ""))
    except (ValueError, AttributeError):
        detail = answer.decode(errors="replace")[:200]
    if status in (401, 403, 410):  # to ask again would bring the same answer for ever
        return Dismissed(detail)
    if 400 <= status < 500 and status != 429:
        return RequestRejected(f"GET /work/channel answered {status}: {detail}")
    return ChannelLost(f"GET /work/channel answered {status}: {detail}")  # as from a server that is being replaced


def _closed(close: Close) -> Exception:
    if close.code == REJECTED:
        return RequestRejected(close.reason)
    if close.code in (DENIED, UNKNOWN_JOB):
        return Dismissed(close.reason)
    return ChannelLost(f"the server closed the channel: {close}")
