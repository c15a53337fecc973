"""What the lobby keeps of each request, and the book of where they all stand."""

from __future__ import annotations

import asyncio
import bisect
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TypeAlias

from server.blobs import Piece
from server.intake.memory import Held
from server.queue import Arrival, Beside, Depth, Hold, Lane, Place, Prediction, Submission

LaneOf: TypeAlias = tuple[str, bool]
"""A tier, and whether it is the lane of its canary."""


class State(Enum):
    """Where an entry stands."""

    WAITING = auto()
    WORKED_ON = auto()
    KEEPING = auto()
    """Its row is being written."""
    SETTLING = auto()
    """Its result has come, and is being written."""
    GONE = auto()
    """It has left the lobby."""


@dataclass(slots=True, eq=False)
class Entry:
    """One request. ``changed`` is called when it has left the lobby.

    ``outcome`` is then its prediction, final or in the table; or the error that says that nothing of it was kept. It
    stays None for an entry that was withdrawn. ``due_from`` is the moment of the event loop from which
    ``lobbySeconds`` count. The whole part of ``start`` is its turn. ``lane`` is that of the submission, until the tier
    has no canary any more.
    """

    submission: Submission
    start: float
    accepted_at: float
    pictures: Sequence[Sequence[Piece]]
    held: Held
    changed: Callable[[], None]
    due_from: float
    state: State = State.WAITING
    hold: Hold | None = None
    lost: str = ""
    """How its lease was lost, if it was; it is written so."""
    outcome: Prediction | Exception | None = None
    step: asyncio.Future[None] | None = field(default=None)
    """Done when the writing that is under way has ended."""
    place: Place = field(init=False)
    """Where it stands in the order of its lane."""
    lane: LaneOf = field(init=False)

    def __post_init__(self) -> None:
        self.lane = self.submission.tier, self.submission.canary
        self.place = self.submission.priority, math.floor(self.start), self.accepted_at

    @property
    def arrival(self) -> Arrival:
        """What the queue is told of it."""
        submission, canary = self.submission, self.lane[1]
        if submission.canary != canary:
            submission = replace(submission, canary=canary)
        return Arrival(submission, self.accepted_at, self.start, self.hold)


class Line:
    """The entries of one lane that wait, in their order."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._moments: list[float] = []  # when they were accepted, the oldest first

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries))

    @property
    def first(self) -> Entry | None:
        """The entry that is to be worked on next."""
        return next(iter(self._entries), None)  # no index, which would be wrong if it became empty under another thread

    @property
    def oldest(self) -> float | None:
        """When the oldest of the entries was accepted."""
        return next(iter(self._moments), None)

    def add(self, entry: Entry) -> None:
        """Put an entry in its place."""
        bisect.insort_right(self._entries, entry, key=_place)
        bisect.insort_right(self._moments, entry.accepted_at)

    def remove(self, entry: Entry) -> None:
        """Take an entry out."""
        self._entries.remove(entry)
        del self._moments[bisect.bisect_left(self._moments, entry.accepted_at)]

    def ahead_of(self, place: Place) -> int:
        """How many stand before a place."""
        return bisect.bisect_left(self._entries, place, key=_place)


class Book:
    """All entries, by where they stand. An entry that is being written stays counted until it has left."""

    def __init__(self) -> None:
        self.lines: defaultdict[LaneOf, Line] = defaultdict(Line)
        self.worked_on: dict[str, Entry] = {}
        self.keeping: dict[str, Entry] = {}
        self.count = 0
        self._queued: defaultdict[LaneOf, int] = defaultdict(int)
        self._leased: defaultdict[LaneOf, int] = defaultdict(int)
        self._bytes: defaultdict[str, int] = defaultdict(int)
        self._of_callers: dict[tuple[str, str], tuple[int, int]] = {}  # how many wait, and their bytes

    def add(self, entry: Entry) -> None:
        """An entry begins to wait."""
        self.count += 1
        self._count_waiting(entry, 1)
        self._bytes[entry.submission.tier] += entry.submission.size
        self.lines[entry.lane].add(entry)

    def work_on(self, entry: Entry, hold: Hold) -> None:
        """A worker got a waiting entry."""
        self.lines[entry.lane].remove(entry)
        self._count_waiting(entry, -1)
        self._leased[entry.lane] += 1
        entry.state, entry.hold = State.WORKED_ON, hold
        self.worked_on[entry.submission.id] = entry

    def wait_again(self, entry: Entry) -> None:
        """A worker hands an entry back, which stands where it stood."""
        del self.worked_on[entry.submission.id]
        self._leased[entry.lane] -= 1
        self._count_waiting(entry, 1)
        entry.state, entry.hold, entry.lost = State.WAITING, None, ""
        self.lines[entry.lane].add(entry)

    def end_canary(self, tier: str) -> None:
        """The tier has no canary any more: its entries are main's, and those that wait stand there where they stood."""
        main, canary = (tier, False), (tier, True)
        waiting = list(self.lines.pop(canary, ()))
        for entry in (*waiting, *self.worked_on.values(), *self.keeping.values()):
            if entry.lane == canary:
                counts = self._queued if entry.hold is None else self._leased
                counts[canary] -= 1
                counts[main] += 1
                entry.lane = main
        for entry in waiting:
            self.lines[main].add(entry)

    def write(self, entry: Entry, state: State) -> None:
        """The writing of an entry begins: for keeping or for settling."""
        if entry.state is State.WAITING:
            self.lines[entry.lane].remove(entry)
        else:
            del self.worked_on[entry.submission.id]
        entry.state, entry.step = state, asyncio.get_running_loop().create_future()
        if state is State.KEEPING:
            self.keeping[entry.submission.id] = entry

    def not_written(self, entry: Entry) -> None:
        """An entry could not be kept, and is where it was."""
        del self.keeping[entry.submission.id]
        if entry.hold is None:
            entry.state = State.WAITING
            self.lines[entry.lane].add(entry)
        else:
            entry.state = State.WORKED_ON
            self.worked_on[entry.submission.id] = entry
        self._end_step(entry)

    def leave(self, entry: Entry, outcome: Prediction | Exception | None) -> None:
        """An entry leaves, and its caller is told."""
        if entry.state is State.WAITING:
            self.lines[entry.lane].remove(entry)
        self.keeping.pop(entry.submission.id, None)
        self.count -= 1
        if entry.hold is None:
            self._count_waiting(entry, -1)
        else:
            self._leased[entry.lane] -= 1
        self._bytes[entry.submission.tier] -= entry.submission.size
        entry.state, entry.outcome, entry.pictures = State.GONE, outcome, []
        entry.held.release()
        self._end_step(entry)
        entry.changed()

    def depth(self, tier: str) -> Depth:
        """How much of a tier is here. May be called from any thread."""
        lane = tier, False
        line = self.lines.get(lane)
        main = Depth(self._queued[lane], self._leased[lane], line.oldest if line else None, self._bytes[tier])
        return main if (canary := self._canary(tier)) is None else _with_canary(main, canary)

    def _canary(self, tier: str) -> Lane | None:
        lane = tier, True
        queued, leased = self._queued.get(lane, 0), self._leased.get(lane, 0)
        if not (queued or leased):
            return None
        line = self.lines.get(lane)
        return Lane(queued, leased, line.oldest if line else None)

    def bytes_of(self, tier: str) -> int:
        """The bytes of all entries of a tier."""
        return self._bytes[tier]

    def of_caller(self, tier: str, caller: str) -> Depth:
        """How much of what waits here is a caller's, without the oldest. May be called from any thread."""
        many, size = self._of_callers.get((tier, caller), (0, 0))
        return Depth(many, 0, None, size)

    def beside(self, depths: Mapping[str, Depth]) -> dict[str, Depth]:
        """These depths of the table with what is here. May be called from any thread."""
        return {**depths, **{tier: _sum(depths.get(tier), self.depth(tier)) for tier in list(self._bytes)}}

    def held_by(self, job: str) -> Beside:
        """What a Job holds of the entries; a lease that is being written may be in the table already."""
        entries = (*self.worked_on.values(), *self.keeping.values())
        sizes = [one.submission.size for one in entries if one.hold and one.hold.job == job]
        return Beside(len(sizes), sum(sizes))

    def held(self) -> Counter[str]:
        """How many of the entries each Job holds."""
        entries = (*self.worked_on.values(), *self.keeping.values())
        return Counter(one.hold.job for one in entries if one.hold)

    def _count_waiting(self, entry: Entry, more: int) -> None:
        one = entry.submission
        self._queued[entry.lane] += more
        key = one.tier, one.caller
        many, size = self._of_callers.get(key, (0, 0))
        if many + more:
            self._of_callers[key] = many + more, size + more * one.size
        else:
            del self._of_callers[key]

    @staticmethod
    def _end_step(entry: Entry) -> None:
        if entry.step is not None:
            entry.step.set_result(None)
            entry.step = None


def waiting_of(lane: LaneOf, depths: Mapping[str, Depth]) -> int:
    """How many wait in a lane, when this much is alive of each tier."""
    tier, is_canary = lane
    depth = depths.get(tier)
    if depth is None:
        return 0
    canary = depth.canary.queued if depth.canary else 0
    return canary if is_canary else depth.queued - canary


def _place(entry: Entry) -> Place:
    return entry.place


def _sum(one: Depth | None, other: Depth) -> Depth:
    if one is None:
        return other
    lanes = [lane for lane in (one.canary, other.canary) if lane]
    canary = None
    if lanes:
        first = _first(*(lane.oldest for lane in lanes))
        canary = Lane(sum(lane.queued for lane in lanes), sum(lane.leased for lane in lanes), first)
    first = _first(one.oldest, other.oldest)
    return Depth(one.queued + other.queued, one.leased + other.leased, first, one.bytes + other.bytes, canary)


def _with_canary(main: Depth, canary: Lane) -> Depth:
    queued, leased = main.queued + canary.queued, main.leased + canary.leased
    return Depth(queued, leased, _first(main.oldest, canary.oldest), main.bytes, canary)


def _first(*moments: float | None) -> float | None:
    return min((at for at in moments if at is not None), default=None)
