"""Coroutines that wait for the end of a prediction, as clients' requests do."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

from server.queue import FINAL, Anything, Ended, Moved, News, Prediction, QueueError

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
HURRIED_AT_ONCE = 2  # for each new request, so that there are soon fewer


class Waiter:
    """A coroutine that waits for news; ``Wakeups`` makes it and has it on a list for as long as it waits."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self.ended: Prediction | None = None  # set if the news that woke it contained the ended prediction
        self.hurried = False  # set if it must not wait again

    @property
    def woken(self) -> bool:
        """Whether there is a wake-up that nobody has acted upon yet."""
        return self._woken.is_set()

    def wake(self) -> None:
        """End ``wait``, or the next one when nobody waits now."""
        self._woken.set()

    async def wait(self, seconds: float) -> bool:
        """Wait for at most ``seconds``; return whether there was a wake-up, now or before, which is used up then."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class Wakeups:
    """Lives on the event loop; ``draining`` says that this server is about to stop, and that nobody waits any more."""

    def __init__(self) -> None:
        self._for_end: defaultdict[str, list[Waiter]] = defaultdict(list)
        self.draining = False

    def hurry(self) -> None:
        """Let some of those who wait for an end wait no longer, because others find no room.

        All at once would keep the event loop busy for too long.
        """
        waiting = (waiter for waiters in self._for_end.values() for waiter in waiters if not waiter.hurried)
        for waiter in itertools.islice(waiting, HURRIED_AT_ONCE):
            waiter.hurried = True
            waiter.wake()

    @contextmanager
    def for_end(self, prediction_id: str) -> Iterator[Waiter]:
        """Yield a waiter for the end of a prediction. The end wakes all of its waiters."""
        with self._enlisted(self._for_end, prediction_id) as waiter:
            yield waiter

    def hear(self, news: Sequence[News]) -> None:
        """Wake those whom the news concerns."""
        for one in news:
            match one:
                case Moved(id=key, status=status) if status in FINAL:
                    self.ended([key])
                case Ended(prediction):
                    for waiter in self._for_end.get(prediction.id, ()):
                        waiter.ended = prediction
                case Anything():
                    self._wake_all()

    def awaited(self) -> list[str]:
        """The predictions whose ends are waited for."""
        return list(self._for_end)

    def ended(self, prediction_ids: Iterable[str]) -> None:
        """Wake those who wait for the end of one of these."""
        for key in prediction_ids:
            _wake(self._for_end.get(key, ()))

    def drain(self) -> None:
        """Wake everybody, now and from now on: this server is about to stop."""
        self.draining = True
        self._wake_all()

    def _wake_all(self) -> None:
        for waiters in self._for_end.values():
            _wake(waiters)

    @contextmanager
    def _enlisted(self, lists: defaultdict[str, list[Waiter]], key: str) -> Iterator[Waiter]:
        waiter = Waiter()
        if self.draining:  # whoever comes after ``drain`` would miss its wake-up
            waiter.wake()
        lists[key].append(waiter)
        try:
            yield waiter
        finally:
            lists[key].remove(waiter)
            if not lists[key]:
                del lists[key]


class Lookout:
    """Looks every ``LOOK_SECONDS`` whether what is waited for has ended: the news of another server can be lost.

    One question to the queue serves all who wait. ``ask`` answers which of these ids have ended; it never blocks.
    """

    def __init__(self, wakeups: Wakeups, ask: Callable[[Collection[str]], Future[set[str]]]) -> None:
        self._wakeups, self._ask = wakeups, ask
        self._asked: asyncio.Future[set[str]] | None = None

    def start(self) -> None:
        """Look from now on, on the running loop, for as long as that runs."""
        loop = asyncio.get_running_loop()
        loop.call_later(LOOK_SECONDS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(LOOK_SECONDS, self._look, loop)
        awaited = self._wakeups.awaited()
        if not awaited or self._asked is not None:  # a queue that is slow to answer is not asked twice
            return
        try:
            self._asked = asyncio.wrap_future(self._ask(awaited), loop=loop)
            self._asked.add_done_callback(self._tell)
        except QueueError as error:
            log.warning("not looking for ends: %s", error)

    def _tell(self, asked: asyncio.Future[set[str]]) -> None:
        self._asked = None
        if asked.cancelled():
            return
        if error := asked.exception():
            log.warning("not looking for ends: %s", error)
        else:
            self._wakeups.ended(asked.result())


def _wake(waiters: Iterable[Waiter]) -> None:
    for waiter in waiters:
        waiter.wake()
