"""Writes into the table what must be promised before its result has come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future

from server.blobs import BlobError
from server.intake.pictures import Pictures
from server.lobby.entries import Book, Entry, LaneOf, State
from server.lobby.shares import Shares
from server.points import Point, reached
from server.queue import ATTEMPTS, FINAL, Kept, OutcomeUnknown, Prediction, Queue, QueueError, asked, chained
from server.settings.records import Settings

log = logging.getLogger(__name__)

LOOKS = 5  # in ``lobbySeconds``, for entries that have been here for so long
LOOK_LEAST_SECONDS = 0.02


class Keeping:
    """Keeps entries when they are asked for, and those that have waited, or been worked on, for ``lobbySeconds``."""

    def __init__(
        self,
        queue: Queue,
        pictures: Pictures,
        disk: Executor,
        book: Book,
        shares: Shares,
        settings: Callable[[], Settings],
        ended: Callable[[Prediction], None],
        waits: Callable[[LaneOf], None],
    ) -> None:
        """``waits`` is told of a lane in which an entry waits again, as it could not be kept."""
        self._queue, self._pictures, self._disk = queue, pictures, disk
        self._book, self._shares = book, shares
        self._settings, self._ended, self._waits = settings, ended, waits
        self._looks = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def keep(self, entry: Entry) -> None:
        """Write an entry that waits or is worked on. If that fails, it leaves, and nothing of it is kept."""
        self._book.write(entry, State.KEEPING)
        await self._keep(entry, drop=True)

    def keep_soon(self, entry: Entry) -> None:
        """Begin to write an entry. If that fails, it is where it was."""
        self._book.write(entry, State.KEEPING)
        task = asyncio.get_running_loop().create_task(self._keep(entry))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def watch(self) -> None:
        """Look after the entries for as long as there are any."""
        if not self._looks:
            self._looks = True
            self._look_later()

    async def _keep(self, entry: Entry, *, drop: bool = False) -> None:
        reached(Point.LOBBY_KEEPING)
        try:
            prediction = await self._write(entry)
        except (QueueError, BlobError, OSError) as error:
            if drop or isinstance(error, OutcomeUnknown):
                self._book.leave(entry, error)
            else:
                entry.due_from = asyncio.get_running_loop().time()
                self._book.not_written(entry)
                if entry.state is State.WAITING:
                    self._waits(entry.lane)
            return
        reached(Point.LOBBY_KEPT)
        if prediction.status in FINAL:
            self._ended(prediction)
        self._book.leave(entry, prediction)

    async def _write(self, entry: Entry) -> Prediction:
        arrival, tier = entry.arrival, self._settings().tiers.get(entry.submission.tier)
        attempts, seconds = tier.limits.attempts if tier else ATTEMPTS, self._settings().lease.seconds
        key, pictures = entry.submission.id, entry.pictures
        paid = self._shares.is_paid(entry.submission, entry.start)

        def write() -> Future[Kept]:
            self._pictures.keep(key, pictures)
            return self._queue.keep(arrival, attempts, seconds, entry.lost, paid=paid)

        needed = False
        try:
            kept = await asked(chained(self._disk, write))
            needed = kept.prediction.status not in FINAL
        except OutcomeUnknown:
            needed = True  # there may be a row; if there is none, the blob is swept like any orphan
            raise
        finally:
            if not needed:
                await self._pictures.forget([key])
        self._shares.kept(entry.submission, kept.finish)
        return kept.prediction

    def _look_later(self) -> None:
        pause = max(LOOK_LEAST_SECONDS, self._settings().lobby_seconds / LOOKS)
        asyncio.get_running_loop().call_later(pause, self._look)

    def _look(self) -> None:
        before = asyncio.get_running_loop().time() - self._settings().lobby_seconds
        waiting = [entry for line in self._book.lines.values() for entry in line]
        for entry in (*waiting, *self._book.worked_on.values()):
            if entry.due_from <= before:
                self.keep_soon(entry)
        self._looks = self._book.count > 0
        if self._looks:
            self._look_later()
