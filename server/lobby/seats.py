"""What the handout knows of the workers that are connected, and of the table."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from server.access.workers import Worker
from server.blobs import Piece
from server.lobby.entries import LaneOf, Line
from server.queue import Granted, Leased, Place

ANY: Place = (-(1 << 62), 0, -math.inf)  # there may be anything in the table


@dataclass(frozen=True, slots=True)
class Handed:
    """A prediction for a worker. ``blob`` has the parts of its blob; None if they must be read from the store."""

    leased: Leased
    blob: Sequence[Piece] | None


class Peer(Protocol):
    """A worker that is connected. ``model`` is the ``Served.key`` of what it runs; empty: that is not known."""

    worker: Worker
    model: str

    def deliver(self, handed: Sequence[Handed]) -> Awaitable[None] | None:
        """Send predictions. Nothing more is delivered until the result is done; None: it is sent. Raises nothing."""

    def dismiss(self, code: int, reason: str) -> None:
        """End the connection."""

    def stopping(self) -> None:
        """Say that this server hands out nothing more."""

    def retire(self, reason: str) -> None:
        """Say that this worker should end, and why."""


@dataclass(slots=True, eq=False)
class Seat:
    """What is known of a peer.

    ``barred``: the head of the table is not for it, as it holds something. ``full``: so much that it was given no more.
    ``lane`` is None when it was recalled or its model is not served any more, for ever: the peer was told to end.
    """

    peer: Peer
    since: float
    lane: LaneOf | None = None
    credits: int = 0
    busy: bool = False
    barred: bool = False
    full: bool = False
    noted_at: float = -math.inf
    holds: dict[str, Leased] = field(default_factory=dict)

    @property
    def wants(self) -> bool:
        """Whether it would take something now."""
        return self.credits > 0 and not self.busy and not any(one.solo for one in self.holds.values())

    @property
    def turn(self) -> tuple[bool, float]:
        """Idle workers come first, and of these whoever was given work last: its caches still hold its network."""
        return bool(self.holds), -self.since


class Seats:
    """The seats of all peers, by tier and Job; ``of`` has those that have a lane, by their lanes."""

    def __init__(self) -> None:
        self.of: defaultdict[LaneOf, dict[str, Seat]] = defaultdict(dict)
        self._all: dict[Worker, Seat] = {}

    def __iter__(self) -> Iterator[Seat]:
        return iter(list(self._all.values()))

    def of_job(self, worker: Worker) -> Seat | None:
        """The seat of a Job."""
        return self._all.get(worker)

    def of_peer(self, peer: Peer) -> Seat | None:
        """The seat of a peer; None if it has left, or its Job has another connection."""
        seat = self._all.get(peer.worker)
        return seat if seat is not None and seat.peer is peer else None

    def share(self, seat: Seat, waiting: int) -> int:
        """How many a worker may take: if a burst went to whoever asks first, the others would be idle."""
        seats = len(self.of[seat.lane]) if seat.lane else 1
        return min(seat.credits, max(1, math.ceil(waiting / seats)))

    def add(self, seat: Seat, lane: LaneOf | None) -> None:
        """A peer has come."""
        self._all[seat.peer.worker] = seat
        self.move(seat, lane)

    def move(self, seat: Seat, lane: LaneOf | None) -> None:
        """Give a seat another lane, or none."""
        job = seat.peer.worker.job
        if seat.lane is not None:
            self.of[seat.lane].pop(job, None)
        seat.lane, seat.barred = lane, False
        if lane is not None:
            self.of[lane][job] = seat

    def remove(self, seat: Seat) -> None:
        """A peer has left, or another connection of its Job takes its place."""
        del self._all[seat.peer.worker]
        self.move(seat, None)


class Table:
    """What is known of the table's rows of one lane: ``head`` is the place of the first that may wait, if any may."""

    def __init__(self) -> None:
        self.head: Place | None = ANY
        self.news = 0
        self.due = 1
        """How many workers should ask."""
        self.asking = 0

    def is_before(self, line: Line) -> bool:
        """Whether the first that may wait here stands before all entries of the lobby."""
        return self.head is not None and (line.first is None or self.head <= line.first.place)


def is_kept_from(granted: Granted, until: Place | None) -> bool:
    """Whether a worker may not have the head of the table, although that comes before ``until``."""
    return not granted.leased and granted.next is not None and (until is None or granted.next <= until)
