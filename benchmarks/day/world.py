"""A service as a sequence of events: clients, queues, workers, and the times at which the leader looks.

The rules of time are those of the server: the leader looks at each tick and when it is nudged, a worker takes its time
to start, ends when it was idle for long enough, and finishes what it has begun when it is recalled.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from benchmarks.day.tiers import Arrival, Sender
from server.engines.base import Room, fit
from server.leader.claiming import amounts
from server.leader.loop import QUIET_SECONDS

TICK_SECONDS = 1.0
TOLD_SECONDS = 0.05  # from a recall to the worker that hears of it
GONE_SECONDS = 0.5  # from a worker's end to the news that its Job is over
FORCED_SECONDS, LAST_SECONDS = (
    10.0,
    5.0,
)  # a recalled worker gets SIGTERM after the first, and then ends within the last
SAMPLE_SECONDS = 10.0


@dataclass(slots=True, eq=False)
class Worker:
    """Starting until it has asked for work, then busy as long as it has a prediction, and ending at last."""

    tier: str
    opened: float
    asked: bool = False
    prediction: Arrival | None = None
    recalled: bool = False
    ending: bool = False
    gone: bool = False
    changes: int = 0
    """How often it began something else: an event of what it did before comes too late."""


@dataclass(slots=True)
class Crew:
    """A tier: its workers, oldest first, its queue, and what happened to its predictions."""

    sender: Sender
    needs: Mapping[str, float]
    hard: Mapping[str, float]
    workers: list[Worker] = field(default_factory=list)
    idle: list[Worker] = field(default_factory=list)
    """The last one worked last, and gets the next prediction."""
    queue: deque[Arrival] = field(default_factory=deque)
    pace: int = 1
    waits: dict[Arrival, float] = field(default_factory=dict)
    """How long each prediction waited until a worker began it; for the last time, if it was handed back."""
    done: int = 0
    starts: int = 0
    recalls: int = 0
    handed_back: int = 0
    """Predictions that recalled workers had begun and did not finish in time."""
    rooms: dict[int, Room] = field(default_factory=dict)

    @property
    def busy(self) -> int:
        """How many of its workers work."""
        return sum(worker.prediction is not None for worker in self.workers)

    def room(self) -> Room:
        """What its quota has room for, as an engine says it. All its workers are of one size."""
        many = len(self.workers)
        if many not in self.rooms:
            used = {resource: many * self.needs.get(resource, 0.0) for resource in self.hard}
            self.rooms[many] = fit(self.hard, used, self.sender.job)
        return self.rooms[many]


@dataclass(frozen=True, slots=True)
class Sample:
    """A moment: by tier the cores of its Jobs and those of its busy workers, and whether any prediction waits."""

    at: float
    held: Mapping[str, float]
    working: Mapping[str, float]
    waiting: bool


class World:
    """Tiers and their day. ``look`` does what the leader does at each look: it starts and recalls workers."""

    def __init__(
        self, senders: Sequence[Sender], quotas: Mapping[str, Mapping[str, float]], look: Callable[[World, float], None]
    ) -> None:
        self.crews = {each.name: Crew(each, amounts(each.job), quotas[each.name]) for each in senders}
        self.samples: list[Sample] = []
        self._look, self._looked, self._next_look = look, -QUIET_SECONDS, float("inf")
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = count()

    def run(self, arrivals: Mapping[str, Sequence[Arrival]], seconds: float) -> float:
        """Let all arrive, and go on until all is done and all workers have ended; returns when that was.

        Samples are taken for the first ``seconds``.
        """
        for name, coming in arrivals.items():
            self._expect(self.crews[name], coming, 0)
        self._at(0.0, lambda now: self._sample(now, seconds))
        now = 0.0
        while self._events:
            now, _, happens = heapq.heappop(self._events)
            happens(now)
        return now

    @property
    def waiting(self) -> bool:
        """Whether any prediction waits."""
        return any(crew.queue for crew in self.crews.values())

    def start(self, crew: Crew, now: float) -> None:
        """Start a Job."""
        worker = Worker(crew.sender.name, now)
        crew.workers.append(worker)
        crew.starts += 1
        self._at(now + crew.sender.start, lambda at: self._ask(crew, worker, at))

    def recall(self, crew: Crew, worker: Worker, now: float) -> None:
        """Have a worker end when it has finished what it has begun, or when that takes too long."""
        worker.recalled = True
        crew.recalls += 1
        self._at(now + TOLD_SECONDS, lambda at: self._hear(crew, worker, at))
        self._at(now + FORCED_SECONDS, lambda at: self._force(crew, worker, at))

    def _at(self, when: float, happens: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), happens))

    def _expect(self, crew: Crew, coming: Sequence[Arrival], number: int) -> None:
        if number < len(coming):
            self._at(coming[number].at, lambda now: self._arrive(crew, coming, number, now))

    def _arrive(self, crew: Crew, coming: Sequence[Arrival], number: int, now: float) -> None:
        self._expect(crew, coming, number + 1)
        crew.queue.append(coming[number])
        if crew.idle:
            self._give(crew, crew.idle.pop(), now)
        else:
            self._nudge(now)

    def _give(self, crew: Crew, worker: Worker, now: float) -> None:
        """Give a worker the first prediction of the queue."""
        worker.prediction = prediction = crew.queue.popleft()
        worker.changes += 1
        changes = worker.changes
        crew.waits[prediction] = now - prediction.at
        self._at(now + prediction.seconds, lambda at: self._finish(crew, worker, changes, at))

    def _finish(self, crew: Crew, worker: Worker, changes: int, now: float) -> None:
        if worker.changes == changes:
            worker.prediction = None
            crew.done += 1
            self._next(crew, worker, now)

    def _ask(self, crew: Crew, worker: Worker, now: float) -> None:
        """A worker has started, unless it was ended meanwhile."""
        if not worker.ending:
            worker.asked = True
            self._next(crew, worker, now)

    def _next(self, crew: Crew, worker: Worker, now: float) -> None:
        if worker.recalled:
            self._end(crew, worker, now)
        elif crew.queue:
            self._give(crew, worker, now)
        else:
            worker.changes += 1
            changes = worker.changes
            crew.idle.append(worker)
            self._at(now + crew.sender.idle, lambda at: self._leave(crew, worker, changes, at))

    def _leave(self, crew: Crew, worker: Worker, changes: int, now: float) -> None:
        """A worker was idle for long enough, unless it got something since then."""
        if worker.changes == changes and not worker.ending:
            self._end(crew, worker, now)

    def _hear(self, crew: Crew, worker: Worker, now: float) -> None:
        """A recalled worker ends at once if it has nothing in hands; one that starts ends when it has started."""
        if worker.asked and worker.prediction is None and not worker.ending:
            self._end(crew, worker, now)

    def _force(self, crew: Crew, worker: Worker, now: float) -> None:
        if worker.ending:
            return
        if worker.prediction is None:
            self._end(crew, worker, now)
        else:
            changes = worker.changes
            self._at(now + LAST_SECONDS, lambda at: self._hand_back(crew, worker, changes, at))

    def _hand_back(self, crew: Crew, worker: Worker, changes: int, now: float) -> None:
        """What a worker has not finished after SIGTERM waits again, at its old place."""
        if worker.changes == changes and worker.prediction is not None:
            crew.queue.appendleft(worker.prediction)
            crew.queue = deque(sorted(crew.queue))
            crew.handed_back += 1
            worker.prediction = None
            self._end(crew, worker, now)

    def _end(self, crew: Crew, worker: Worker, now: float) -> None:
        worker.ending, worker.changes = True, worker.changes + 1
        if worker in crew.idle:
            crew.idle.remove(worker)
        self._at(now + GONE_SECONDS, lambda at: self._gone(crew, worker, at))

    def _gone(self, crew: Crew, worker: Worker, now: float) -> None:
        worker.gone = True
        crew.workers.remove(worker)
        self._nudge(now)

    def _nudge(self, now: float) -> None:
        self._look_at(max(now, self._looked + QUIET_SECONDS))

    def _look_at(self, when: float) -> None:
        if when < self._next_look:
            self._next_look = when
            self._at(when, self._step)

    def _step(self, now: float) -> None:
        """The leader looks. While nothing waits it has nothing to do, and its looks are left out."""
        if now != self._next_look:
            return
        self._looked, self._next_look = now, float("inf")
        if self.waiting:
            self._look(self, now)
            self._look_at(now + TICK_SECONDS)

    def _sample(self, now: float, seconds: float) -> None:
        crews = self.crews.items()
        held = {name: len(crew.workers) * crew.needs["cpu"] for name, crew in crews}
        working = {name: crew.busy * crew.needs["cpu"] for name, crew in crews}
        self.samples.append(Sample(now, held, working, self.waiting))
        if now + SAMPLE_SECONDS < seconds:
            self._at(now + SAMPLE_SECONDS, lambda at: self._sample(at, seconds))
