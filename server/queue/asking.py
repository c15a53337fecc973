"""Lets coroutines wait for the queue, whose operations return futures."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """An answer that may be as old as ``seconds``, so that a burst of requests asks for it once.

    While it is asked for, whoever comes waits for the same answer: a slow one is not asked for again and again.
    """

    def __init__(self, ask: Callable[[], Future[T]], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._at = -math.inf
        self._future: Future[T] | None = None
        self._latest: tuple[T, float] | None = None

    async def get(self) -> T:
        """The answer, asked anew if it has aged. Raises what the queue raises."""
        return await asked(self._renewed())

    def latest(self, seconds: float) -> T | None:
        """The last answer that came, without waiting for one; None if it is older than ``seconds``.

        It is asked anew if it has aged, for those who come later.
        """
        if self._future is not None and self._future.done() and not self._future.exception():
            self._latest = self._future.result(), self._at
        self._renewed()
        return self._latest[0] if self._latest and time.monotonic() - self._latest[1] <= seconds else None

    def _renewed(self) -> Future[T]:
        now = time.monotonic()
        if self._future is None or (self._future.done() and now - self._at > self._seconds):
            self._at, self._future = now, self._ask()
        return self._future


class RecentByName(Generic[T]):
    """A recent answer for each name."""

    def __init__(self, ask: Callable[[str], Future[T]], seconds: float) -> None:
        self._ask, self._seconds = ask, seconds
        self._kept: dict[str, Recent[T]] = {}

    async def get(self, name: str) -> T:
        """The answer for ``name``, one of a bounded number. Raises what was raised by asking."""
        if name not in self._kept:
            self._kept[name] = Recent(lambda: self._ask(name), self._seconds)
        return await self._kept[name].get()


async def asked(future: Future[T]) -> T:
    """Await an operation of the queue."""
    return await asyncio.wrap_future(future)


def chained(pool: Executor, work: Callable[[], Future[T]]) -> Future[T]:
    """Call ``work`` in the pool; return a future of the operation that it begins.

    To await the pool first and the operation then would cost one more turn of the event loop.
    """
    result: Future[T] = Future()

    def settle(done: Future[T]) -> None:
        if error := done.exception():
            result.set_exception(error)
        else:
            result.set_result(done.result())

    def begin() -> None:
        try:
            work().add_done_callback(settle)
        except BaseException as error:  # noqa: BLE001 (whatever it is, it belongs to the caller)
            result.set_exception(error)

    pool.submit(begin)
    return result
