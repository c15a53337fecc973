"""Compares the Jobs that the engine has with the Job rows of the queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from server.engines.base import Engine, Job, Phase
from server.leader.answers import answer
from server.models import OUTDATED, lane
from server.queue import JobRow, Queue, Serving
from server.settings.records import Tier

log = logging.getLogger(__name__)

LEFT_ALONE_SECONDS = 10.0  # of a worker, before it may be recalled: it shall have been worth its start
GO_SECONDS = 10.0  # which a recalled worker has for what it has begun


@dataclass(frozen=True, slots=True)
class Member:
    """A live Job. ``since``: when its worker first asked for work, or if it has not, when the Job was opened."""

    name: str
    since: float
    asked: bool
    needs: Mapping[str, str] = field(default_factory=dict, hash=False)
    """As its engine's ``Job.needs``."""


@dataclass(frozen=True, slots=True)
class Crew:
    """A tier's live Jobs with one model."""

    members: Sequence[Member] = ()
    """Oldest first."""
    starting: int = 0
    """Those of them that have not asked for work yet."""
    held_up: str = ""
    """What keeps one of these from its work; empty when nothing is known."""

    @classmethod
    def of(cls, live: Sequence[tuple[JobRow, Job]]) -> Crew:
        """The crew of these Jobs, oldest first."""
        starting = [job for row, job in live if row.asked_at is None]
        held_up = next((job.reason for job in starting if job.reason), "")
        return cls([_member(row, job) for row, job in live], len(starting), held_up)

    @property
    def running(self) -> int:
        """How many there are."""
        return len(self.members)

    @property
    def youngest(self) -> str:
        """The name of the Job that was started last; empty if there is none."""
        return self.members[-1].name if self.members else ""

    def fresh(self, now: float, seconds: float) -> int:
        """How many asked for work for the first time less than so many seconds ago."""
        return sum(one.asked and now - one.since < seconds for one in self.members)

    def recallable(self, now: float) -> list[Member]:
        """Those that may be recalled, newest first."""
        return [one for one in reversed(self.members) if now - one.since >= LEFT_ALONE_SECONDS]


@dataclass(frozen=True, slots=True)
class Crews:
    """All live Jobs of a tier, by what they run.

    The ``outdated`` run what the tier serves no more; they and the ``recalled`` get no more work, and end.
    """

    main: Crew = Crew()
    canary: Crew = Crew()
    outdated: Sequence[Member] = ()
    recalled: Sequence[Member] = ()

    @property
    def leaving(self) -> Sequence[Member]:
        """Those that get no more work."""
        return [*self.outdated, *self.recalled]

    @property
    def all(self) -> Sequence[Member]:
        """Every live Job."""
        return [*self.main.members, *self.canary.members, *self.leaving]

    @property
    def running(self) -> int:
        """How many there are."""
        return len(self.all)

    @property
    def starting(self) -> int:
        """Those of them that have not asked for work yet."""
        return self.main.starting + self.canary.starting


class Jobs:
    """Ends the Jobs that are over. The row of a Job is older than the Job, so a Job without a live row is over too."""

    def __init__(self, queue: Queue, engine: Engine, clock: Callable[[], float]) -> None:
        self._queue, self._engine, self._clock = queue, engine, clock

    def reconcile(self, tier: Tier, rows: Sequence[JobRow], silence: float, serving: Serving) -> Crews:
        """End what is over, in the engine and in the queue; return what lives on. Raises ``EngineError``.

        ``rows`` are the tier's. A Job that was silent for ``silence`` seconds is given up. One that was recalled, or
        has a model that the tier serves no more, is stopped if it has not begun; else its worker is told by its server
        to finish and to end.
        """
        jobs = {job.name: job for job in self._engine.jobs(tier)}
        live = [(row, job) for row in rows if (job := self._live(tier, row, jobs.pop(row.name, None), silence))]
        for job in jobs.values():
            if job.phase is not Phase.FAILED:  # people can look at a failed Job until its time to live is over
                self._engine.stop(job.name)
        of_lane: dict[bool | None, list[tuple[JobRow, Job]]] = {False: [], True: [], None: []}
        recalled = []
        for row, job in live:
            gets = lane(row.model, serving)
            if row.asked_at is None and (why := row.reason or (OUTDATED if gets is None else "")):
                log.info("Job %s is stopped before it begins: %s", row.name, why)
                self.stop(row.name, tier, why)
            elif row.recalled_at is not None:
                recalled.append(_member(row, job))
                if self._clock() - row.recalled_at > GO_SECONDS:  # it hands back what it has begun, too
                    self._engine.stop(row.name)
            else:
                of_lane[gets].append((row, job))
        outdated = [_member(row, job) for row, job in of_lane[None]]
        return Crews(Crew.of(of_lane[False]), Crew.of(of_lane[True]), outdated, recalled)

    def recall(self, member: Member, reason: str) -> None:
        """Have the servers tell a Job's worker to hand back what it has not begun, and to end."""
        if answer(self._queue.recall_job(member.name, reason)):
            log.info("Job %s is recalled: %s", member.name, reason)

    def stop(self, name: str, tier: Tier, reason: str) -> None:
        """End a Job that is not to blame; its worker hands back what it has not begun. Raises ``EngineError``."""
        # The row goes first: if the engine fails now, the next look stops the Job, as one without a row.
        self.end(name, tier, reason, blame=False)
        self._engine.stop(name)

    def end(self, name: str, tier: Tier, reason: str, *, blame: bool) -> None:
        """A Job is over: what it holds waits again."""
        if blame:
            log.warning("Job %s ended: %s", name, reason)
        answer(self._queue.end_job(name, reason, blame=blame, attempts=tier.limits.attempts))

    def _live(self, tier: Tier, row: JobRow, job: Job | None, silence: float) -> Job | None:
        """The Job if it lives on; else end it."""
        if job is None:  # it ended with an earlier server, or somebody deleted it: its predictions are not to blame
            self.end(row.name, tier, row.reason or "it is no longer there", blame=False)
        elif job.phase is Phase.FAILED:
            self.end(row.name, tier, job.reason, blame=True)
        elif job.phase is not Phase.RUNNING:
            self.stop(row.name, tier, job.reason or row.reason)
        # Kubernetes never fails a Job whose image cannot be pulled or whose pod fits on no node.
        elif row.asked_at is None and self._clock() - row.opened_at > tier.waits.start:
            late = f"it asked for no work within {tier.waits.start:g} s"
            self._give_up(row, tier, tier.waits.start, f"{late}: {job.reason}" if job.reason else late)
        # The pod on a lost node looks as if it ran, for minutes.
        elif row.heard_at is not None and self._clock() - row.heard_at > silence:
            self._give_up(row, tier, silence, f"nothing was heard of it for {silence:g} s")
        else:
            return job
        return None

    def _give_up(self, row: JobRow, tier: Tier, unheard: float, reason: str) -> None:
        """End a Job by force, unless it was heard of since its row was read."""
        if answer(self._queue.give_up_job(row.name, unheard, reason, attempts=tier.limits.attempts)):
            log.warning("Job %s ended: %s", row.name, reason)
            self._engine.stop(row.name, at_once=True)


def _member(row: JobRow, job: Job) -> Member:
    asked = row.asked_at is not None
    return Member(row.name, row.opened_at if row.asked_at is None else row.asked_at, asked, job.needs)
