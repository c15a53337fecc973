"""What happens to the predictions of each tier: what this server counts of it, and how fast all servers go."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from server.queue import KEPT_MINUTES, Minute, Prediction, Status, minute_of
from server.time_classes import PARTS, class_of

ANSWER_SECONDS = 30.0  # longer than the database may take for a statement or a lock
LAST_CLASS = 27 * PARTS  # 37 hours, and whatever takes longer
RATE_SECONDS = 10
LOOK_SECONDS = 0.5  # looks that follow each other sooner count as one, so that there are few
LOOKED_MINUTES = 2  # those in which the last ``RATE_SECONDS`` lie
FAILED = frozenset({Status.FAILED, Status.EXPIRED, Status.ABORTED})

Moment = tuple[str, int]  # a tier and a minute


@dataclass(slots=True)
class Counts:
    """What one server counted in one minute of one tier."""

    accepted: int = 0
    succeeded: int = 0
    failed: int = 0
    waits: Counter[int] = field(default_factory=Counter)

    def minute(self, at: int) -> Minute:
        """The same, as it is written."""
        return Minute(at, self.accepted, self.succeeded, self.failed, self.waits)

    def add(self, other: Counts) -> None:
        """Add what was counted elsewhere."""
        self.accepted += other.accepted
        self.succeeded += other.succeeded
        self.failed += other.failed
        self.waits += other.waits


@dataclass(frozen=True, slots=True)
class Rates:
    """How many predictions of a tier a second, over about so many ``seconds``; 0 if that is not known yet."""

    seconds: int = 0
    accepted: float = 0.0
    succeeded: float = 0.0
    failed: float = 0.0


class Activity:
    """Counts, and hands what it counted to ``write`` with each ``flush``. Safe from any thread.

    ``read`` answers what all servers have written in the last minutes of tiers. ``clock`` gives epoch seconds.
    """

    def __init__(
        self,
        write: Callable[[Sequence[tuple[str, Minute]]], Future[None]],
        read: Callable[[Collection[str], int], Future[dict[Moment, Minute]]],
        tiers: Callable[[], Collection[str]],
        clock: Callable[[], float],
    ) -> None:
        self._write, self._read, self._tiers, self._clock = write, read, tiers, clock
        self._lock = threading.Lock()
        self._counts: dict[Moment, Counts] = {}
        self._looks: deque[tuple[float, Mapping[Moment, Minute]]] = deque()

    def accepted(self, tier: str) -> None:
        """Count a prediction that was accepted."""
        with self._lock:
            self._now(tier).accepted += 1

    def ended(self, tier: str, status: Status) -> None:
        """Count a prediction that has reached its final status."""
        with self._lock:
            if status is Status.SUCCEEDED:
                self._now(tier).succeeded += 1
            elif status in FAILED:
                self._now(tier).failed += 1

    def waited(self, prediction: Prediction) -> None:
        """Count how long one has waited, if it has succeeded."""
        if prediction.status is Status.SUCCEEDED and prediction.started_at is not None:
            waited = class_of(1000 * (prediction.started_at - prediction.accepted_at), LAST_CLASS)
            with self._lock:
                self._now(prediction.tier).waits[waited] += 1

    def flush(self) -> None:
        """Write what was counted since the last one, then look how fast all servers are.

        Blocks. Raises what the queue raises, and ``TimeoutError``. What could not be written is written with the next
        one. If only the answer was lost, it is counted twice.
        """
        with self._lock:
            counted, self._counts = self._counts, {}
        try:
            if counted:
                self._write([(tier, one.minute(at)) for (tier, at), one in counted.items()]).result(ANSWER_SECONDS)
        except BaseException:
            self._take_back(counted)
            raise
        self._look()

    def rates(self, tier: str) -> Rates:
        """How fast all servers together are."""
        with self._lock:
            looks = [look for look in self._looks if self._clock() - look[0] <= 2 * RATE_SECONDS]
        if len(looks) < 2 or (seconds := looks[-1][0] - looks[0][0]) <= 0:
            return Rates()
        (_, before), (_, now) = looks[0], looks[-1]

        def rate(name: str) -> float:
            # Each minute by itself: the first look has minutes that the last one has no more.
            more: list[int] = [
                getattr(one, name) - getattr(before.get(of), name, 0) for of, one in now.items() if of[0] == tier
            ]
            return round(sum(more) / seconds, 2)

        return Rates(min(RATE_SECONDS, round(seconds)), rate("accepted"), rate("succeeded"), rate("failed"))

    def _now(self, tier: str) -> Counts:
        of = tier, minute_of(self._clock())
        if (counts := self._counts.get(of)) is None:
            counts = self._counts[of] = Counts()
        return counts

    def _take_back(self, counted: Mapping[Moment, Counts]) -> None:
        with self._lock:
            oldest = minute_of(self._clock()) - KEPT_MINUTES
            for of, counts in counted.items():
                if of[1] > oldest:
                    self._counts.setdefault(of, Counts()).add(counts)

    def _look(self) -> None:
        now = self._clock()
        if self._looks and 0 <= now - self._looks[-1][0] < LOOK_SECONDS:
            return
        found = self._read(self._tiers(), LOOKED_MINUTES).result(ANSWER_SECONDS)
        with self._lock:
            self._looks.append((now, found))
            # The first one stays that is as old as the rates need, or else the oldest.
            while len(self._looks) > 1 and now - self._looks[1][0] >= RATE_SECONDS:
                self._looks.popleft()
