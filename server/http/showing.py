"""What the tiers look like now, told to all who follow them: it is looked at and put into words once for all streams.

It does nothing while nobody follows. News says that something has changed; much changes without any, so it looks
without news, too.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from server.http.wakeups import Waiter
from server.queue import QueueError

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # after which it looks although no news has come
REST_SECONDS = 0.25  # between two looks
# The figures of the queue may be a moment old, and so older than the news.
SETTLE_SECONDS = 0.12
# A rest is so many times as long as the look before it and the telling of it, so that both take a fifth of all time.
SHARE = 4
NUDGED_AT_ONCE = 50  # streams, before others on the event loop have their turn
DIGEST_BYTES = 8


class Reader(Protocol):
    """Who follows the tiers."""

    def nudge(self) -> None:
        """There may be something to tell."""


class Showing:
    """Lives on the event loop.

    ``look`` says how the tiers are, and ``write`` makes an event of JSON in one line and of an id. Whoever makes the
    handlers sets both.

    ``event`` is that as it is sent, the same bytes for all, and ``digest`` the same for the same tiers at every server.
    """

    look: Callable[[], Awaitable[Any]]
    write: Callable[[str, str], bytes]

    def __init__(self) -> None:
        self._readers: dict[Reader, None] = {}  # a set in order
        self._waiter = Waiter()
        self._task: asyncio.Task[None] | None = None
        self._start_anew()

    def _start_anew(self) -> None:
        self.event, self._text, self.digest = b"", "", ""
        self._began_at, self._rest = -math.inf, REST_SECONDS
        self._news_at: tuple[float, float] | None = None  # the first and the last that no look has shown for sure

    async def follow(self, reader: Reader) -> None:
        """From now on ``reader`` is told. Raises what the first look raises: then it is not.

        When it returns, there is a text.
        """
        self._readers[reader] = None
        if self._task is None:
            self._start_anew()
            self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._run(self._first))
        try:
            await asyncio.shield(self._first)
        except BaseException:
            self.leave(reader)
            raise

    def leave(self, reader: Reader) -> None:
        """The reader follows no more; further calls change nothing."""
        if self._readers.pop(reader, self) is None and not self._readers:
            self._waiter.wake()

    def hear(self) -> None:
        """Something has changed: look soon."""
        if self._readers:
            now = self._now()
            if self._news_at is None:
                self._waiter.wake()
            self._news_at = now if self._news_at is None else self._news_at[0], now

    async def _run(self, first: asyncio.Future[None]) -> None:
        """Look again and again until nobody follows; ``first`` is done with the first look."""
        try:
            while self._readers:
                if (left := self._due_at() - self._now()) > 0:
                    await self._waiter.wait(left)
                    continue
                try:
                    await self._see()
                except Exception as error:
                    self._rest = LOOK_SECONDS
                    if not first.done():
                        first.set_exception(error)
                    elif isinstance(error, QueueError):
                        log.warning("not looking at the tiers that are followed: %s", error)
                    else:
                        log.exception("the tiers that are followed could not be looked at")
                if not first.done():
                    first.set_result(None)
        finally:
            self._task = None
            if not first.done():  # all have left before the first look
                first.set_result(None)

    def _due_at(self) -> float:
        rested_at = self._began_at + self._rest
        if self._news_at is None:
            return max(rested_at, self._began_at + LOOK_SECONDS)
        return max(rested_at, self._news_at[0] + SETTLE_SECONDS)

    async def _see(self) -> None:
        """Look, and tell the readers if something has changed."""
        self._began_at = began_at = self._now()
        if self._news_at is not None:
            last = self._news_at[1]
            self._news_at = None if began_at - last >= SETTLE_SECONDS else (last, last)
        text = json.dumps(await self.look(), separators=(",", ":"))
        if text != self._text:
            self._text = text
            self.digest = hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()
            self.event = self.write(text, self.digest)
            for number, reader in enumerate(list(self._readers), 1):
                reader.nudge()
                if number % NUDGED_AT_ONCE == 0:
                    await asyncio.sleep(0)
        # Thousands of readers take longer than the look.
        self._rest = max(REST_SECONDS, SHARE * (self._now() - began_at))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
