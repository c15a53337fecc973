"""Compares the Jobs that the engine has with the Job rows of the queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.engines.base import Engine, Job, Phase
from server.leader.answers import answer
from server.queue import JobRow, Queue
from server.settings.records import Tier

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Crew:
    """A tier's live Jobs."""

    running: int = 0
    starting: int = 0
    """Those of them that have not asked for work yet."""
    held_up: str = ""
    """What keeps one of these from its work; empty when nothing is known."""


class Jobs:
    """Ends the Jobs that are over. The row of a Job is older than the Job, so a Job without a live row is over too."""

    def __init__(self, queue: Queue, engine: Engine, clock: Callable[[], float]) -> None:
        self._queue, self._engine, self._clock = queue, engine, clock

    def reconcile(self, tier: Tier, rows: Sequence[JobRow], silence: float) -> Crew:
        """End what is over, in the engine and in the queue; return what lives on. Raises ``EngineError``.

        ``rows`` are the tier's. A Job that was silent for ``silence`` seconds is given up.
        """
        jobs = {job.name: job for job in self._engine.jobs(tier)}
        live = [(row, job) for row in rows if (job := self._live(tier, row, jobs.pop(row.name, None), silence))]
        for job in jobs.values():
            if job.phase is not Phase.FAILED:  # people can look at a failed Job until its time to live is over
                self._engine.stop(job.name)
        starting = [job for row, job in live if row.asked_at is None]
        return Crew(len(live), len(starting), next((job.reason for job in starting if job.reason), ""))

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
            # The row goes first: if the engine fails now, the next look stops the Job, as one without a row.
            self.end(row.name, tier, job.reason, blame=False)
            self._engine.stop(row.name)
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
