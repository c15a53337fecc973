"""Compares the Jobs that the engine has with the Job rows of the queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.engines.base import Engine, Job, Phase
from server.leader.answers import answer
from server.models import lane
from server.queue import JobRow, Queue, Serving
from server.settings.records import Tier

log = logging.getLogger(__name__)

OUTDATED = "its tier serves another model"


@dataclass(frozen=True, slots=True)
class Crew:
    """A tier's live Jobs with one model."""

    running: int = 0
    starting: int = 0
    """Those of them that have not asked for work yet."""
    held_up: str = ""
    """What keeps one of these from its work; empty when nothing is known."""
    youngest: str = ""
    """The name of the Job that was started last."""

    @classmethod
    def of(cls, live: Sequence[tuple[JobRow, Job]]) -> Crew:
        """The crew of these Jobs, oldest first."""
        starting = [job for row, job in live if row.asked_at is None]
        held_up = next((job.reason for job in starting if job.reason), "")
        return cls(len(live), len(starting), held_up, live[-1][1].name if live else "")


@dataclass(frozen=True, slots=True)
class Crews:
    """All live Jobs of a tier, by what they run; those that are ``leaving`` run what the tier serves no more."""

    main: Crew = Crew()
    canary: Crew = Crew()
    leaving: int = 0

    @property
    def running(self) -> int:
        """How many there are."""
        return self.main.running + self.canary.running + self.leaving

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

        ``rows`` are the tier's. A Job that was silent for ``silence`` seconds is given up. One with a model that the
        tier serves no more is stopped if it has not begun; else its worker is told by its server to finish and to end.
        """
        jobs = {job.name: job for job in self._engine.jobs(tier)}
        live = [(row, job) for row in rows if (job := self._live(tier, row, jobs.pop(row.name, None), silence))]
        for job in jobs.values():
            if job.phase is not Phase.FAILED:  # people can look at a failed Job until its time to live is over
                self._engine.stop(job.name)
        of_lane: dict[bool | None, list[tuple[JobRow, Job]]] = {False: [], True: [], None: []}
        for row, job in live:
            gets = lane(row.model, serving)
            if gets is None and row.asked_at is None:
                log.info("Job %s is stopped before it begins: %s", row.name, OUTDATED)
                self.stop(row.name, tier, OUTDATED)
            else:
                of_lane[gets].append((row, job))
        return Crews(Crew.of(of_lane[False]), Crew.of(of_lane[True]), len(of_lane[None]))

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
            self.end(row.name, tier, "it is no longer there", blame=False)
        elif job.phase is Phase.FAILED:
            self.end(row.name, tier, job.reason, blame=True)
        elif job.phase is not Phase.RUNNING:
            self.stop(row.name, tier, job.reason)
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
