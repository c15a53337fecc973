"""The worker's line to the server: a channel that is opened anew whenever it is lost.

Nothing is lost with a channel: the first message on the next one names everything that the worker has, and brings the
results again whose outcome is unknown. That is safe, since each carries the token of its lease.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from model.channel import REPLY_SECONDS, Channel, ChannelLost
from model.desk import Desk

RETRY_FIRST, RETRY_MOST = 0.05, 1.0
GONE_SECONDS = 60.0  # twice as long as a server that is replaced takes to come back


class ServerGone(Exception):
    """There has been no channel for ``GONE_SECONDS``; the worker should end."""


class Line:
    """The line of one worker. ``run`` belongs to one thread; all other methods may be called from any thread."""

    def __init__(
        self, url: str, token: Callable[[], str], desk: Desk, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url, self._token, self._desk, self._clock = url, token, desk, clock
        self._sending = threading.Lock()  # so that messages go out in the order in which the desk made them
        self._channel: Channel | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        """Receive until the worker has ended and nothing is open, or until ``hang_up``.

        Raises ``Dismissed``, ``RequestRejected`` and ``ServerGone``.
        """
        pause, lost_since = RETRY_FIRST, self._clock()
        while not (self._ended.is_set() or self._desk.is_over()):
            why = "the server stops"
            opened = None
            try:
                with Channel(self._url, self._bearer()) as channel:
                    opened = self._clock()
                    self._begin(channel)
                    self._listen(channel)
            except ChannelLost as error:
                why = str(error)
            finally:
                self._desk.lose()
                self._channel = None
            now = self._clock()
            if opened is not None:
                lost_since = now
                if now - opened >= RETRY_MOST:  # else a server that closes every channel at once would be hurried
                    pause = RETRY_FIRST
            if now - lost_since >= GONE_SECONDS:
                raise ServerGone(why)
            if not self._desk.is_over():
                self._ended.wait(pause)
            pause = min(2 * pause, RETRY_MOST)

    def tell(self) -> None:
        """Send what is due. If that fails, the next channel brings it."""
        with self._sending:
            channel = self._channel
            if channel is None:
                return
            try:
                while message := self._desk.message():
                    if "renew" in message:
                        message["token"] = self._bearer()
                    channel.send(message)
            except ChannelLost:
                self._desk.lose()
                channel.close()

    def hang_up(self) -> None:
        """End ``run`` without waiting for anything more."""
        self._ended.set()
        channel = self._channel
        if channel is not None:
            channel.close()

    def _begin(self, channel: Channel) -> None:
        with self._sending:
            channel.send(self._desk.open() | {"token": self._bearer()})
            self._channel = channel
        self.tell()

    def _listen(self, channel: Channel) -> None:
        while not self._desk.is_clear():
            # A renewal is sent at least so often, and answered: longer silence means that the server is gone.
            news = channel.receive(self._desk.renew + REPLY_SECONDS)
            self._desk.take(news)
            if not news.leases or self._desk.done:  # else the main thread tells, when it takes one up
                self.tell()

    def _bearer(self) -> str:
        # Asked for each time, as Kubernetes renews it.
        try:
            return self._token()
        except OSError as error:
            raise ChannelLost(f"cannot read the token: {error}") from error
