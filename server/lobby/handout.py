"""Gives predictions to the workers that are connected: those of the lobby and of the table, in one order."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from server.access.workers import Worker
from server.blobs import pack
from server.lobby.entries import LaneOf, Line
from server.lobby.lobby import LARGEST_BYTES, Lobby
from server.lobby.seats import ANY, Handed, Peer, Seat, Seats, Table, is_kept_from
from server.models import OUTDATED
from server.models import lane as lane_of
from server.points import Point, reached
from server.queue import HELD_BYTES, HELD_MOST, Granted, Leased, Queue, QueueError, Serving, UnknownJob, asked
from server.settings.records import Settings

log = logging.getLogger(__name__)

# News can reach a worker that may not take the work, and a notice of another server can be lost.
LOOK_AGAIN_SECONDS = 2.0
NOTED_SECONDS = 1.0  # how often the queue is told that a Job works for the lobby
UNKNOWN_JOB, OTHER_CHANNEL = 4410, 4409


class Handout:
    """Hands out on the event loop, in each lane for itself.

    ``waiting`` answers how many predictions of a lane wait in all; ``serving`` says what a tier serves and ``recalled``
    why a Job's worker was recalled, neither ever waiting.
    """

    def __init__(
        self,
        queue: Queue,
        lobby: Lobby,
        settings: Callable[[], Settings],
        waiting: Callable[[LaneOf], Awaitable[int]],
        serving: Callable[[str], Serving],
        recalled: Callable[[str], str],
    ) -> None:
        self._queue, self._lobby, self._settings, self._waiting = queue, lobby, settings, waiting
        self._serving, self._recalled, self._seats = serving, recalled, Seats()
        self._tables: defaultdict[LaneOf, Table] = defaultdict(Table)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = self._looks = False
        self.unserved: Callable[[], None] = lambda: None  # told when an entry finds no worker
        self.vacated: Callable[[], None] = lambda: None  # told when a worker has left that was told to end
        lobby.arrived = self._arrived

    def has_workers(self, lane: LaneOf) -> bool:
        """Whether a worker of this lane is connected."""
        return bool(self._seats.of.get(lane)) and not self._stopped

    def join(self, peer: Peer) -> None:
        """A worker is connected; an older connection of its Job is ended."""
        if older := self._seats.of_job(peer.worker):
            older.peer.dismiss(OTHER_CHANNEL, "another channel of this Job was opened")
            self.leave(older.peer)
        lane = self._lane_of(peer)
        self._seats.add(Seat(peer, self._now()), lane)
        if self._stopped:
            peer.stopping()
        if lane is None:
            self._retire(peer)
        self._look_later()

    def leave(self, peer: Peer) -> None:
        """A worker's connection has ended."""
        if seat := self._seats.of_peer(peer):
            retired = seat.lane is None
            self._seats.remove(seat)
            if retired:
                self.vacated()

    def recalls_changed(self) -> None:
        """Other workers are recalled now. Each is told to end, and gets nothing more."""
        for seat in self._seats:
            lane = self._lane_of(seat.peer)
            if seat.lane is not None and seat.lane != lane:
                self._seats.move(seat, lane)
                if lane is None:
                    self._retire(seat.peer)

    def served_changed(self) -> None:
        """Something else is served now. A worker whose model is not served any more is told to end too."""
        self.recalls_changed()
        self._lobby.end_canaries()
        self.look()

    def took_up(self, peer: Peer, leased: Iterable[Leased]) -> None:
        """A worker came with these of the table."""
        if seat := self._seats.of_peer(peer):
            seat.holds |= {one.id: one for one in leased}

    def grant(self, peer: Peer, more: int) -> None:
        """A worker would take so many more."""
        if seat := self._seats.of_peer(peer):
            seat.credits = min(HELD_MOST, seat.credits + more)
            self._serve_lane_of(seat)

    def forgo(self, peer: Peer) -> None:
        """A worker takes nothing more of what it asked for."""
        if seat := self._seats.of_peer(peer):
            seat.credits = 0

    def finished(self, peer: Peer, ids: Iterable[str]) -> None:
        """A worker holds these no longer."""
        if seat := self._seats.of_peer(peer):
            for key in ids:
                if (one := seat.holds.pop(key, None)) and one.solo:
                    seat.full = True
            if seat.barred or seat.full:
                seat.barred = seat.full = False
                self._serve_lane_of(seat)

    def available(self, tier: str) -> None:
        """There may be work in the table."""
        for lane in ((tier, False), (tier, True)):
            if lane in self._tables:  # else nobody has asked that could be wrong about it
                self._news(lane)

    def look(self) -> None:
        """Ask the table anew for every worker that would take something."""
        for lane, seats in list(self._seats.of.items()):
            if hungry := sum(seat.wants for seat in seats.values()):
                self._tables[lane].due = hungry
                self._news(lane)

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped = True
        for seat in self._seats:
            seat.peer.stopping()

    def serve(self, lane: LaneOf) -> None:
        """Give what waits to those who would take it."""
        seats, line, table = self._seats.of[lane], self._lobby.book.lines[lane], self._tables[lane]
        if self._stopped:
            return
        for seat in sorted((seat for seat in seats.values() if seat.wants), key=lambda one: one.turn):
            if line and not table.is_before(line):
                self._give(seat, lane, line, table)
            if table.head is None and not line:
                return
            if seat.wants and not seat.barred and table.is_before(line):
                if table.asking and not table.due:
                    return
                self._ask(seat, lane, table)

    def _arrived(self, lane: LaneOf) -> None:
        self.serve(lane)
        if self._lobby.book.lines[lane]:
            self.unserved()

    def _lane_of(self, peer: Peer) -> LaneOf | None:
        tier = peer.worker.tier
        canary = None if self._recalled(peer.worker.job) else lane_of(peer.model, self._serving(tier))
        return None if canary is None else (tier, canary)

    def _retire(self, peer: Peer) -> None:
        peer.retire(self._recalled(peer.worker.job) or OUTDATED)

    def _serve_lane_of(self, seat: Seat) -> None:
        if seat.lane is not None:
            self.serve(seat.lane)

    def _news(self, lane: LaneOf) -> None:
        table, seats = self._tables[lane], self._seats.of[lane]
        table.head, table.news = ANY, table.news + 1
        table.due = min(table.due + 1, max(1, len(seats)))
        for seat in seats.values():
            seat.barred = False
        self.serve(lane)

    def _give(self, seat: Seat, lane: LaneOf, line: Line, table: Table) -> None:
        """Give entries of the lobby that stand before the table's."""
        worker, most = seat.peer.worker, self._seats.share(seat, len(line))
        reaches = not lane[1] or not self._main_waits(lane[0])
        size, held = 0, sum(one.size for one in seat.holds.values())
        handed: list[Handed] = []
        while len(handed) < most and (entry := line.first) is not None and not table.is_before(line):
            size += entry.submission.size
            many = len(seat.holds)
            if (handed and size > LARGEST_BYTES) or many >= HELD_MOST or (many > 1 and held + size > HELD_BYTES):
                seat.full = True
                break
            blob = pack(entry.pictures)
            handed.append(Handed(self._lobby.lease(entry, worker.job, reaches=reaches), blob))
            seat.holds[handed[-1].leased.id] = handed[-1].leased
        if handed:
            reached(Point.LOBBY_LEASED)
            self._note(seat)
            self._deliver(seat, handed)

    def _main_waits(self, tier: str) -> bool:
        """Whether the turns of a tier go on with its main model alone, as far as this server knows.

        Else a caller whose part of the canary is done early would make newcomers wait for all its other predictions.
        """
        main = tier, False
        stored = self._tables[main].head is not None and self._seats.of[main]  # idle ones would have asked by now
        return bool(self._lobby.book.lines[main] or stored)

    def _ask(self, seat: Seat, lane: LaneOf, table: Table) -> None:
        """Begin to lease from the table."""
        seat.busy = True
        table.due, table.asking = max(0, table.due - 1), table.asking + 1
        self._begin(self._lease(seat, lane, table))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _lease(self, seat: Seat, lane: LaneOf, table: Table) -> None:
        worker, news = seat.peer.worker, table.news
        line, until = self._lobby.book.lines[lane], None
        try:
            most = self._seats.share(seat, await self._waiting(lane))
            until = line.first.place if line.first else None
            wish = (worker.tier, worker.job, most, LARGEST_BYTES, self._settings().lease.seconds)
            beside = self._lobby.book.held_by(worker.job)
            granted = await asked(self._queue.lease(*wish, beside=beside, until=until, canary=lane[1]))
        except UnknownJob as error:
            seat.peer.dismiss(UNKNOWN_JOB, str(error))
            self.leave(seat.peer)
            granted = None
        except QueueError as error:
            log.debug("no work is handed out: %s", error)
            granted = None
        table.asking -= 1
        seat.busy = False
        seat.barred = seat.lane == lane and (granted is None or is_kept_from(granted, until))
        if granted is not None:
            await self._got(seat, lane, table, granted, news)
        if granted is not None or self._seats.of_peer(seat.peer) is None:  # else ``look`` asks again
            self.serve(lane)
            if seat.lane != lane:
                self._serve_lane_of(seat)

    async def _got(self, seat: Seat, lane: LaneOf, table: Table, granted: Granted, news: int) -> None:
        if table.news == news:  # nothing was heard of meanwhile
            table.head = granted.next
        if not granted.leased:
            return
        self._lobby.shares.served(lane[0], granted.turn)
        if seat.lane == lane:
            seat.holds |= {one.id: one for one in granted.leased}
            self._deliver(seat, [Handed(one, None) for one in granted.leased])
            return
        # Its lane was changed while the table was asked: this is for another worker.
        try:
            await self._lobby.release(seat.peer.worker, [(one.id, one.token) for one in granted.leased])
        except QueueError as error:
            log.debug("leases for another worker are left until their end: %s", error)

    def _deliver(self, seat: Seat, handed: Sequence[Handed]) -> None:
        seat.credits -= len(handed)
        seat.since = self._now()
        waiting = seat.peer.deliver(handed)
        if waiting is None:
            return

        def sent(_: asyncio.Future[None]) -> None:
            seat.busy = False
            self._serve_lane_of(seat)

        seat.busy = True
        asyncio.ensure_future(waiting).add_done_callback(sent)

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

    def _look_later(self) -> None:
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_later(LOOK_AGAIN_SECONDS, self._look)

    def _look(self) -> None:
        self._looks = False
        if any(self._seats.of.values()) and not self._stopped:
            self.look()
            self._look_later()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
