"""Writes final rows: the results that have come while one commit is made go together into the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from server.lobby.entries import Book, Entry
from server.points import Point, reached
from server.queue import Completion, Prediction, Queue, QueueError

AT_ONCE = 64  # results in one commit


class Settling:
    """``ended`` is told of each prediction that was written."""

    def __init__(self, queue: Queue, book: Book, ended: Callable[[Prediction], None]) -> None:
        self._queue, self._book, self._ended = queue, book, ended
        self._results: list[tuple[Entry, Completion]] = []
        self._busy = False

    def add(self, results: Sequence[tuple[Entry, Completion]]) -> None:
        """Write the results of entries, whose writing has begun; then the entries leave."""
        self._results += results
        if self._results and not self._busy:
            self._begin()

    def _begin(self) -> None:
        batch, self._results = self._results[:AT_ONCE], self._results[AT_ONCE:]
        entries = [entry for entry, _ in batch]
        loop = asyncio.get_running_loop()

        def done(future: Future[list[Prediction]]) -> None:
            loop.call_soon_threadsafe(self._end, entries, future)

        self._busy = True
        try:
            writing = self._queue.settle([(entry.arrival, completion) for entry, completion in batch])
        except QueueError as error:
            writing = Future()
            writing.set_exception(error)
        writing.add_done_callback(done)

    def _end(self, entries: list[Entry], future: Future[list[Prediction]]) -> None:
        reached(Point.LOBBY_SETTLED)
        self._busy = False
        if self._results:
            self._begin()
        error = future.exception()
        if error is not None:
            for entry in entries:
                self._book.leave(entry, error if isinstance(error, Exception) else QueueError(str(error)))
            return
        for entry, prediction in zip(entries, future.result(), strict=True):
            self._ended(prediction)
            self._book.leave(entry, prediction)
