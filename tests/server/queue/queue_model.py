"""A model of the queue in a few dictionaries, with which the state machine compares the real queue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from server.queue import FINAL, Status, Submission
from server.queue.operations.sweeps import IDLE_SECONDS


@dataclass
class Entry:
    """A prediction as it should be."""

    submission: Submission
    turn: int
    order: int
    deadline_at: float
    accepted_at: float
    canary: bool
    status: Status = Status.QUEUED
    attempts: int = 0
    solo: bool = False
    started: bool = False
    job: str | None = None
    token: str = ""  # of its lease, or of the lease whose result finished it
    tokens: set[str] = field(default_factory=set)
    lease_until: float = 0.0
    completed_at: float | None = None

    @property
    def live(self) -> bool:
        return self.status not in FINAL


class Model:
    """Everything that the queue should know."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.jobs: dict[str, str] = {}  # the tier of each live Job
        self.now = 0.0
        self.reached: dict[str, int] = {}  # the turn of each tier
        self.finish: dict[tuple[str, str], tuple[float, float]] = {}  # of each caller in a tier, and when it was set
        self._order = 0

    def alive(self, tier: str, status: Status, *, canary: bool | None = None) -> list[Entry]:
        """The predictions of a tier that have this state, in one lane or, without ``canary``, in both."""
        lanes = (False, True) if canary is None else (canary,)
        found = [one for one in self.entries.values() if one.status is status and one.submission.tier == tier]
        return [one for one in found if one.canary in lanes]

    def waiting(self, tier: str, *, canary: bool | None = None) -> list[Entry]:
        queued = self.alive(tier, Status.QUEUED, canary=canary)
        return sorted(queued, key=lambda one: (one.submission.priority, one.turn, one.order))

    def held(self, job: str) -> list[Entry]:
        return [one for one in self.entries.values() if one.status is Status.LEASED and one.job == job]

    def with_key(self, submission: Submission) -> Entry | None:
        if submission.idempotency_key is None:
            return None
        for one in self.entries.values():
            mine = one.submission
            if (mine.idempotency_key, mine.fingerprint) == (submission.idempotency_key, submission.fingerprint):
                return one
        return None

    def submit(self, submission: Submission) -> None:
        self._order += 1
        whose = submission.tier, submission.caller
        finish, _ = self.finish.get(whose, (0.0, 0.0))
        reached = self.reached.get(submission.tier, 0)
        start = finish if finish > reached else reached + 1.0
        self.finish[whose] = start + submission.cost, self.now
        self.entries[submission.id] = Entry(
            submission=submission,
            turn=math.floor(start),
            order=self._order,
            deadline_at=self.now + submission.deadline,
            accepted_at=self.now,
            canary=submission.canary,
        )

    def reach(self, tier: str, turn: int) -> int:
        self.reached[tier] = max(self.reached.get(tier, 0), turn)
        return self.reached[tier]

    def reached_with(self, tier: str, leased: Sequence[Entry], *, canary: bool) -> int:
        """What a lease of these says of the tier's turn: of the canary's, nothing while others wait."""
        turn = max((one.turn for one in leased), default=0)
        if not canary or not leased:
            return turn
        return 0 if self.waiting(tier, canary=False) else self.reach(tier, turn)

    def forget_shares(self) -> None:
        """Who comes after a long time, when nothing of his waits any more, stands where a new caller stands."""
        busy = {
            (one.submission.tier, one.submission.caller) for one in self.entries.values() if one.status is Status.QUEUED
        }
        for whose, (_, at) in list(self.finish.items()):
            if at <= self.now - IDLE_SECONDS and whose not in busy:
                del self.finish[whose]

    def end_canary(self, tier: str) -> int:
        moved = self.waiting(tier, canary=True)
        for one in moved:
            one.canary = False
        return len(moved)

    def leasable(self, tier: str, *, canary: bool) -> list[Entry]:
        return [one for one in self.waiting(tier, canary=canary) if one.deadline_at > self.now]

    def choose(self, tier: str, job: str, most: int, most_bytes: int, *, canary: bool) -> list[Entry]:
        """The predictions that a lease should contain."""
        held = self.held(job)
        if any(one.solo for one in held):
            return []
        chosen: list[Entry] = []
        for one in self.leasable(tier, canary=canary)[:most]:
            if one.solo:
                return chosen or ([] if held else [one])
            if chosen and sum(each.submission.size for each in [*chosen, one]) > most_bytes:
                break
            chosen.append(one)
        return chosen

    def lease(self, entry: Entry, job: str, token: str, seconds: float) -> None:
        entry.status, entry.job, entry.token, entry.started = Status.LEASED, job, token, True
        entry.tokens.add(token)
        if not entry.canary:
            self.reach(entry.submission.tier, entry.turn)
        entry.attempts += 1
        entry.lease_until = min(self.now + seconds, entry.deadline_at)

    def requeue(self, entry: Entry, *, blame: bool) -> None:
        entry.status, entry.job, entry.token = Status.QUEUED, None, ""
        entry.solo = entry.solo or blame
        entry.attempts -= not blame

    def end(self, entry: Entry, status: Status, token: str = "") -> None:
        entry.status, entry.token, entry.completed_at = status, token, self.now

    def lose(self, entry: Entry, attempts: int) -> None:
        if entry.deadline_at <= self.now:
            self.end(entry, Status.EXPIRED)
        elif entry.attempts >= attempts:
            self.end(entry, Status.FAILED)
        else:
            self.requeue(entry, blame=True)

    def complete(self, prediction_id: str, token: str, job: str, status: Status) -> str:
        entry = self.entries.get(prediction_id)
        if entry is None or token not in entry.tokens:
            return "unknown"
        if not entry.live:
            return "duplicate" if entry.token == token else "final"
        self.end(entry, status, token)
        entry.job, entry.attempts = job, max(1, entry.attempts)
        return "accepted"

    def complete_invalid(self, prediction_id: str, token: str, attempts: int) -> str:
        entry = self.entries.get(prediction_id)
        if entry is None or token not in entry.tokens:
            return "unknown"
        if not entry.live:
            return "duplicate" if entry.token == token else "final"
        if entry.status is Status.LEASED and entry.token == token:
            self.lose(entry, attempts)
        return "invalid"

    def reclaim(self, tiers: dict[str, int]) -> None:
        for one in self.entries.values():
            tier = one.submission.tier
            if tier not in tiers:
                continue
            if one.status is Status.LEASED and one.lease_until <= self.now:
                self.lose(one, tiers[tier])
            elif one.status is Status.QUEUED and one.deadline_at <= self.now:
                self.end(one, Status.EXPIRED if one.started else Status.ABORTED)

    def end_job(self, job: str, attempts: int, *, blame: bool) -> None:
        self.jobs.pop(job, None)
        for one in self.held(job):
            if blame:
                self.lose(one, attempts)
            else:
                self.requeue(one, blame=False)

    def abort_tier(self, tier: str) -> None:
        for one in self.entries.values():
            lost = one.status is Status.LEASED and one.lease_until <= self.now
            if one.submission.tier == tier and (lost or one.status is Status.QUEUED):
                self.end(one, Status.FAILED if one.started else Status.ABORTED)

    def purge(self, seconds: dict[str, float], others: float) -> set[str]:
        old = {
            name
            for name, one in self.entries.items()
            if one.completed_at is not None and one.completed_at <= self.now - seconds.get(one.submission.tier, others)
        }
        for name in old:
            del self.entries[name]
        return old
