"""Gives predictions to the workers that are connected: those of the lobby and of the table, in one order."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from server.access.workers import Worker
from server.blobs import pack
from server.lobby.entries import Line
from server.lobby.lobby import LARGEST_BYTES, Lobby
from server.lobby.seats import ANY, Handed, Peer, Seat, Table
from server.points import Point, reached
from server.queue import HELD_BYTES, HELD_MOST, Granted, Leased, Place, Queue, QueueError, UnknownJob, asked
from server.settings.records import Settings

log = logging.getLogger(__name__)

# News can reach a worker that may not take the work, and a notice of another server can be lost.
LOOK_AGAIN_SECONDS = 2.0
NOTED_SECONDS = 1.0  # how often the queue is told that a Job works for the lobby
UNKNOWN_JOB, OTHER_CHANNEL = 4410, 4409


class Handout:
    """Hands out on the event loop. ``waiting`` answers how many predictions of a tier wait in all."""

    def __init__(
        self,
        queue: Queue,
        lobby: Lobby,
        settings: Callable[[], Settings],
        waiting: Callable[[str], Awaitable[int]],
    ) -> None:
        self._queue, self._lobby, self._settings, self._waiting = queue, lobby, settings, waiting
        self._seats: defaultdict[str, dict[str, Seat]] = defaultdict(dict)  # by tier and Job
        self._tables: defaultdict[str, Table] = defaultdict(Table)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = self._looks = False
        self.unserved: Callable[[], None] = lambda: None  # told when an entry finds no worker
        lobby.arrived = self._arrived

    def has_workers(self, tier: str) -> bool:
        """Whether a worker of this tier is connected."""
        return bool(self._seats.get(tier)) and not self._stopped

    def join(self, peer: Peer) -> None:
        """A worker is connected; an older connection of its Job is ended."""
        seats, job = self._seats[peer.worker.tier], peer.worker.job
        if job in seats:
            seats[job].peer.dismiss(OTHER_CHANNEL, "another channel of this Job was opened")
        seats[job] = Seat(peer, self._now())
        if self._stopped:
            peer.stopping()
        self._look_later()

    def leave(self, peer: Peer) -> None:
        """A worker's connection has ended."""
        seats = self._seats[peer.worker.tier]
        if peer.worker.job in seats and seats[peer.worker.job].peer is peer:
            del seats[peer.worker.job]

    def took_up(self, peer: Peer, leased: Iterable[Leased]) -> None:
        """A worker came with these of the table."""
        if seat := self._seat(peer):
            seat.holds |= {one.id: one for one in leased}

    def grant(self, peer: Peer, more: int) -> None:
        """A worker would take so many more."""
        if seat := self._seat(peer):
            seat.credits = min(HELD_MOST, seat.credits + more)
            self.serve(peer.worker.tier)

    def forgo(self, peer: Peer) -> None:
        """A worker takes nothing more of what it asked for."""
        if seat := self._seat(peer):
            seat.credits = 0

    def finished(self, peer: Peer, ids: Iterable[str]) -> None:
        """A worker holds these no longer."""
        if seat := self._seat(peer):
            for key in ids:
                if (one := seat.holds.pop(key, None)) and one.solo:
                    seat.full = True
            if seat.barred or seat.full:
                seat.barred = seat.full = False
                self.serve(peer.worker.tier)

    def available(self, tier: str) -> None:
        """There may be work in the table."""
        table = self._tables[tier]
        table.head, table.news = ANY, table.news + 1
        table.due = min(table.due + 1, max(1, len(self._seats[tier])))
        for seat in self._seats[tier].values():
            seat.barred = False
        self.serve(tier)

    def look(self) -> None:
        """Ask the table anew for every worker that would take something."""
        for tier, seats in list(self._seats.items()):
            if hungry := sum(seat.wants for seat in seats.values()):
                self._tables[tier].due = hungry
                self.available(tier)

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped = True
        for seats in self._seats.values():
            for seat in seats.values():
                seat.peer.stopping()

    def serve(self, tier: str) -> None:
        """Give what waits to those who would take it."""
        seats, line, table = self._seats[tier], self._lobby.book.lines[tier], self._tables[tier]
        if self._stopped:
            return
        for seat in sorted((seat for seat in seats.values() if seat.wants), key=lambda one: one.turn):
            if line and not _table_is_first(table, line):
                self._give(seat, line, table)
            if table.head is None and not line:
                return
            if seat.wants and not seat.barred and _table_is_first(table, line):
                if table.asking and not table.due:
                    return
                self._ask(seat, table)

    def _arrived(self, tier: str) -> None:
        self.serve(tier)
        if self._lobby.book.lines[tier]:
            self.unserved()

    def _give(self, seat: Seat, line: Line, table: Table) -> None:
        """Give entries of the lobby that stand before the table's."""
        worker = seat.peer.worker
        most = self._share(seat, len(line))
        size, held = 0, sum(one.size for one in seat.holds.values())
        handed: list[Handed] = []
        while len(handed) < most and (entry := line.first) is not None and not _table_is_first(table, line):
            size += entry.submission.size
            many = len(seat.holds)
            if (handed and size > LARGEST_BYTES) or many >= HELD_MOST or (many > 1 and held + size > HELD_BYTES):
                seat.full = True
                break
            blob = pack(entry.pictures)
            handed.append(Handed(self._lobby.lease(entry, worker.job), blob))
            seat.holds[handed[-1].leased.id] = handed[-1].leased
        if handed:
            reached(Point.LOBBY_LEASED)
            self._note(seat)
            self._deliver(seat, handed)

    def _ask(self, seat: Seat, table: Table) -> None:
        """Begin to lease from the table."""
        seat.busy = True
        table.due, table.asking = max(0, table.due - 1), table.asking + 1
        self._begin(self._lease(seat, table))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _lease(self, seat: Seat, table: Table) -> None:
        worker, news = seat.peer.worker, table.news
        line, until = self._lobby.book.lines[worker.tier], None
        try:
            most = self._share(seat, await self._waiting(worker.tier))
            until = line.first.place if line.first else None
            wish = (worker.tier, worker.job, most, LARGEST_BYTES, self._settings().lease.seconds)
            beside = self._lobby.book.held_by(worker.job)
            granted = await asked(self._queue.lease(*wish, beside=beside, until=until))
        except UnknownJob as error:
            seat.peer.dismiss(UNKNOWN_JOB, str(error))
            self.leave(seat.peer)
            granted = None
        except QueueError as error:
            log.debug("no work is handed out: %s", error)
            granted = None
        table.asking -= 1
        seat.busy = False
        seat.barred = granted is None or _is_kept_from(granted, until)
        if granted is not None:
            self._got(seat, table, granted, news)
        if granted is not None or self._seat(seat.peer) is None:  # after a failure of the queue, ``look`` asks again
            self.serve(worker.tier)

    def _got(self, seat: Seat, table: Table, granted: Granted, news: int) -> None:
        if table.news == news:  # nothing was heard of meanwhile
            table.head = granted.next
        if granted.leased:
            self._lobby.shares.served(seat.peer.worker.tier, granted.turn)
            seat.holds |= {one.id: one for one in granted.leased}
            self._deliver(seat, [Handed(one, None) for one in granted.leased])

    def _deliver(self, seat: Seat, handed: Sequence[Handed]) -> None:
        seat.credits -= len(handed)
        seat.since = self._now()
        waiting = seat.peer.deliver(handed)
        if waiting is None:
            return

        def sent(_: asyncio.Future[None]) -> None:
            seat.busy = False
            self.serve(seat.peer.worker.tier)

        seat.busy = True
        asyncio.ensure_future(waiting).add_done_callback(sent)

    def _share(self, seat: Seat, waiting: int) -> int:
        """How many a worker may take: if a burst went to whoever asks first, the others would be idle."""
        seats = max(1, len(self._seats[seat.peer.worker.tier]))
        return min(seat.credits, max(1, math.ceil(waiting / seats)))

    def _note(self, seat: Seat) -> None:
        """Tell the queue now and then that a Job works, and on which turn: it sees only what is leased from it."""
        now = self._now()
        if now - seat.noted_at >= NOTED_SECONDS:
            seat.noted_at = now
            self._begin(self._tell(seat.peer.worker))

    async def _tell(self, worker: Worker) -> None:
        shares, tier = self._lobby.shares, worker.tier
        try:
            shares.served(tier, await asked(self._queue.got_work(worker.job, tier, shares.turn(tier))))
        except QueueError as error:
            log.debug("not noted: %s", error)

    def _seat(self, peer: Peer) -> Seat | None:
        seat = self._seats[peer.worker.tier].get(peer.worker.job)
        return seat if seat is not None and seat.peer is peer else None

    def _look_later(self) -> None:
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_later(LOOK_AGAIN_SECONDS, self._look)

    def _look(self) -> None:
        self._looks = False
        if any(self._seats.values()) and not self._stopped:
            self.look()
            self._look_later()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _is_kept_from(granted: Granted, until: Place | None) -> bool:
    """Whether a worker may not have the head of the table, although that comes before ``until``."""
    return not granted.leased and granted.next is not None and (until is None or granted.next <= until)


def _table_is_first(table: Table, line: Line) -> bool:
    return table.head is not None and (line.first is None or table.head <= line.first.place)
