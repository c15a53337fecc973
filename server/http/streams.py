"""The event streams that this server has open: how many there may be, and what keeps them alive and ends them.

An event stream is an answer of ``text/event-stream``: server-sent events, as WHATWG's HTML Living Standard says.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from http import HTTPStatus
from typing import Protocol

from server.problems import Problem

QUIET_SECONDS = 15.0  # after which a comment is sent: proxies close connections over which nothing comes
# One address may have so much of all streams, but always some for a house full of people.
ONE_ADDRESS_SHARE, ONE_ADDRESS_LEAST = 0.1, 64
RETRY_SECONDS = 5
# What all streams together may have in memory that their readers have not taken yet.
UNSENT_BYTES = 16 * 1024 * 1024
AT_ONCE = 50  # streams that are written to before others on the event loop have their turn
TURN_SECONDS = 0.01


class Open(Protocol):
    """An open stream."""

    def comment(self) -> None:
        """Send a comment, so that the connection does not look dead."""

    def drain(self) -> None:
        """Tell the reader to come back, and end."""

    def break_off(self) -> None:
        """Close the connection at once."""


class Streams:
    """Lives on the event loop. At most ``most`` streams are open at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.most_of_one = min(most, max(ONE_ADDRESS_LEAST, int(most * ONE_ADDRESS_SHARE)))
        self._told_at: dict[Open, float] = {}  # in the order of the moments
        self._networks: dict[Open, str] = {}
        self._of_network: Counter[str] = Counter()
        self._unsent: dict[Open, int] = {}  # in the order in which they began to wait for their readers
        self._unsent_bytes = 0
        self._looks = self._draining = False

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._networks)

    def enter(self, stream: Open, network: str) -> None:
        """A stream is opened by somebody in this network. Raises ``Problem`` with 503 when there are too many."""
        self._check(self.count, self.most, "open at this server")
        self._check(self._of_network[network], self.most_of_one, "open from your address")
        self._networks[stream] = network
        self._of_network[network] += 1
        loop = asyncio.get_running_loop()
        self._told_at[stream] = loop.time()
        if self._draining:
            loop.call_soon(stream.drain)
        if not self._looks:
            self._looks = True
            loop.call_later(QUIET_SECONDS, self._look)

    def leave(self, stream: Open) -> None:
        """A stream has ended; further calls change nothing."""
        network = self._networks.pop(stream, None)
        if network is not None:
            del self._told_at[stream]
            self.took(stream)
            self._of_network[network] -= 1
            if not self._of_network[network]:
                del self._of_network[network]

    def told(self, stream: Open) -> None:
        """Something has just been sent on an open stream."""
        if self._told_at.pop(stream, None) is not None:
            self._told_at[stream] = asyncio.get_running_loop().time()

    def waits(self, stream: Open, size: int) -> None:
        """So many bytes wait for a reader. When all readers together leave too much, the slowest of them is closed."""
        self.took(stream)
        self._unsent[stream] = size
        self._unsent_bytes += size
        while self._unsent_bytes > UNSENT_BYTES:
            slowest = next(iter(self._unsent))
            self.took(slowest)
            slowest.break_off()

    def took(self, stream: Open) -> None:
        """A reader has taken all that waited for it; further calls change nothing."""
        self._unsent_bytes -= self._unsent.pop(stream, 0)

    def drain(self) -> None:
        """End all streams, also those that are opened from now on: this server is about to stop."""
        self._draining = True
        self._drain_some(list(self._networks))

    def _drain_some(self, left: list[Open]) -> None:
        for stream in left[:AT_ONCE]:
            stream.drain()
        if len(left) > AT_ONCE:
            asyncio.get_running_loop().call_soon(self._drain_some, left[AT_ONCE:])

    def _look(self) -> None:
        """Send comments on the streams that have been quiet, some at a time, until the last stream has ended."""
        loop = asyncio.get_running_loop()
        quiet_since = loop.time() - QUIET_SECONDS
        first = itertools.islice(self._told_at.items(), AT_ONCE)
        for stream in [stream for stream, told_at in first if told_at <= quiet_since]:
            self.told(stream)  # also where it is too slow to take a comment: it is asked again later
            stream.comment()
        self._looks = bool(self._told_at)
        if self._looks:
            next_at = next(iter(self._told_at.values())) + QUIET_SECONDS
            loop.call_later(max(TURN_SECONDS, next_at - loop.time()), self._look)

    @staticmethod
    def _check(count: int, most: int, where: str) -> None:
        if count >= most:
            detail = f"{count} event streams are {where}, and {most} may be; close one, or ask again without a stream"
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too_many_streams",
                detail,
                retry_after=RETRY_SECONDS,
                open_streams=count,
                limit_streams=most,
            )
