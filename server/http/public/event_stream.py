"""The base of the handlers that answer with an event stream."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

from server.access.callers import network_of
from server.http.connections import Exchange
from server.http.public.base import PublicHandler

RETRY_MS, DRAINED_RETRY_MS = 1000, 500
COMMENT = b": \n\n"
PIECE_BYTES = 32 * 1024


def event(name: str, data: Any, event_id: str = "") -> bytes:
    """One event as it is sent: ``data`` as JSON in one line; without an id if that is empty."""
    return written(name, json.dumps(data, separators=(",", ":")), event_id)


def written(name: str, data: str, event_id: str = "") -> bytes:
    """As ``event``, of data that is JSON in one line already."""
    identified = f"id: {event_id}\n" if event_id else ""
    return f"{identified}event: {name}\ndata: {data}\n\n".encode()


class EventStream(PublicHandler):
    """Its ``get`` checks the request, calls ``begin``, and then enlists this stream with whoever calls ``nudge``.

    A reader that is too slow for each event gets the newest state only, as ``unseen`` is asked when the last events
    have left. Set ``over`` when nothing will follow what ``unseen`` returns, and ``more`` while it would return more.
    """

    over = more = False
    _begun = _gone = _late = False

    def unseen(self) -> bytes:
        """The events that bring the reader up to the present state; empty if there are none. They count as sent.

        There may be some of them only: about ``PIECE_BYTES``, so that little waits for those who are slow to read.
        """
        raise NotImplementedError

    def left(self) -> None:
        """Called when the stream has ended, perhaps several times."""

    @property
    def last_event_id(self) -> str:
        """The id of the last event that the reader has seen, at whichever server; empty if it has seen none."""
        return self.request.headers.get("Last-Event-ID", "")

    def begin(self) -> bool:
        """Send the head. Returns False if nothing can follow. Raises ``Problem`` when too many streams are open."""
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")  # nginx would gather the events
        # Nobody has told of a client that hung up while its request was being read.
        if self._gone or self._iostream.closed():
            return False
        if self.request.method == "HEAD":
            self.flush()  # a stream has no length and no digest, which Tornado would set at the end
            return False
        self.services.streams.enter(self, network_of(self.address))
        self._begun, self._auto_finish = True, False
        assert isinstance(self.request.connection, Exchange)
        # A reader that is slow to take the last events counts for as long as its connection is open.
        self.request.connection.last(partial(self.services.streams.leave, self))
        self._send(f"retry: {RETRY_MS}\n\n".encode())
        self.count()
        self.log_access()
        return True

    def nudge(self) -> None:
        """There may be something to tell. Nothing happens before ``begin``."""
        if not self._begun or self._finished or self._gone:
            return
        if self._iostream.writing():
            self._late = True
            return
        if events := self.unseen():
            self._send(events)
        if self.over:
            self.finish()
        elif self.more:
            asyncio.get_running_loop().call_soon(self.nudge)

    def comment(self) -> None:
        """As ``Open`` says. A reader that has not taken everything needs none."""
        if not (self._finished or self._gone or self._iostream.writing()):
            self._send(COMMENT)

    def drain(self) -> None:
        """As ``Open`` says."""
        if self._finished or self._gone:
            return
        detail = "this server stops; open the stream again, at whichever server answers"
        self.write(f"retry: {DRAINED_RETRY_MS}\n".encode() + event("drain", {"detail": detail}))
        self.finish()

    def release(self) -> None:
        """As the base says."""
        super().release()
        self.left()

    def on_connection_close(self) -> None:
        """As the base says."""
        self._gone = True
        super().on_connection_close()

    def _send(self, text: bytes) -> None:
        self.write(text)
        leaving = self.flush()
        self.services.streams.told(self)
        if not leaving.done():
            self.services.streams.waits(self, len(text))
            leaving.add_done_callback(self._has_left)

    def _has_left(self, _: asyncio.Future[None]) -> None:
        self.services.streams.took(self)
        if self._late:
            self._late = False
            self.nudge()
