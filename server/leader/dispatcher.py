"""The one loop that starts Jobs: reclaim, look, plan, render, start, tidy. It can be killed and re-run at any moment.

Everything it knows is asked anew each time, from the queue's tables and from the engine; all that it keeps is how fast
it may start, and for a few seconds what it would start. Handlers never start anything: they nudge, and a lost nudge
costs one tick. Of several servers on one database, one dispatches; the others look each tick whether it is still there.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from server.blobs import BlobError, Blobs
from server.engines.base import Engine, EngineError, Job, NoRoom, Phase
from server.leader.planning import BREAKER_STRIKES, breaker_seconds, plan, resting
from server.points import Point, reached
from server.queue.facts.errors import QueueError
from server.queue.facts.records import Depth, JobRow, Strikes, TierView
from server.queue.queue import Queue
from server.settings.live import Live
from server.settings.manifests import BadManifest, Manifest, job_name
from server.settings.records import Tier
from server.settings.render import SAMPLE_RUN, RenderError

T = TypeVar("T")

log = logging.getLogger(__name__)

ANSWER_SECONDS = 30.0
QUIET_SECONDS = 0.25
TIDY_SECONDS = 60.0
SAMPLE_SECONDS = 5.0
ORPHAN_SECONDS = 3600.0
SWEEP_PAGE = 500
RUN_BYTES = 5


class Dispatcher:
    """Runs on a thread of its own. ``clock`` gives epoch seconds, as the queue's rows have them."""

    def __init__(
        self,
        live: Live,
        queue: Queue,
        blobs: Blobs,
        engine: Engine,
        server_url: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._live, self._queue, self._blobs = live, queue, blobs
        self._engine, self._server_url = engine, server_url
        self._clock = clock
        self._nudged = threading.Event()
        self._stopping = threading.Event()
        self._pace: dict[str, int] = {}
        self._reclaim_at = self._tidy_at = -math.inf
        self._leading = False
        self._leases_count_at = math.inf
        self._samples: dict[str, tuple[Manifest, float]] = {}
        self._tried: dict[str, Manifest] = {}
        self._reported: dict[str, tuple[TierView, float]] = {}

    def nudge(self) -> None:
        """Something may be startable: look soon. Safe from any thread."""
        self._nudged.set()

    def stop(self) -> None:
        """End ``run`` after the step under way."""
        self._stopping.set()
        self._nudged.set()

    def run(self) -> None:
        """Tick until stopped, each ``settings.tick`` s and, between, when nudged; then let the engine end its Jobs."""
        while not self._stopping.is_set():
            try:
                self.tick()
            except (QueueError, EngineError, TimeoutError) as error:
                log.error("the dispatcher could not look: %s", error)
            except Exception:
                log.exception("the dispatcher stumbled; it looks again in %g s", self._live.current.settings.tick)
            self._stopping.wait(QUIET_SECONDS)
            self._nudged.wait(self._live.current.settings.tick - QUIET_SECONDS)
            self._nudged.clear()
        self._engine.close()

    def tick(self) -> None:
        """Look once, and take the steps that follow."""
        self._take_up_changes()
        if not self._leads():
            return
        now = self._clock()
        if now >= self._reclaim_at:
            self._reclaim_at = now + self._live.current.settings.lease.reclaim
            self._reclaim(leases=now >= self._leases_count_at)
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_SECONDS
            self._tidy()
        rows: dict[str, list[JobRow]] = {}
        for row in _ask(self._queue.jobs()):
            rows.setdefault(row.tier, []).append(row)
        tiers = self._live.current.settings.tiers
        running = {name: self._settle(tier, rows.get(name, [])) for name, tier in tiers.items()}
        depths = _ask(self._queue.depths())
        for name, tier in tiers.items():
            self._report(name, self._serve(tier, running[name], depths.get(name) or Depth(0, 0, None)))
        for gone in rows.keys() - tiers.keys():
            for row in rows[gone]:
                self._end(row.name, gone, "its tier was removed", blame=False)
        for gone in depths.keys() - tiers.keys():
            if depths[gone].queued or depths[gone].leased:
                _ask(self._queue.abort_tier(gone, "tier_removed", f"the tier {gone} is no longer offered"))

    def _leads(self) -> bool:
        leads, led, self._leading = self._queue.leads(), self._leading, False
        if leads and not led:
            log.info("dispatching from now on")
            # Leases may have run out while no server, or no database, was there to renew them.
            self._leases_count_at = self._clock() + self._live.current.settings.lease.seconds
            self._reported.clear()
        elif led and not leads:
            log.warning("no longer dispatching: another server does, or the database is away")
        self._leading = leads
        return leads

    def _take_up_changes(self) -> None:
        try:
            if self._live.refresh(self._engine.check):
                self._samples.clear()
        except EngineError as error:
            log.warning("changed settings and templates wait until they can be tried: %s", error)

    def _settle(self, tier: Tier, rows: Sequence[JobRow]) -> list[tuple[JobRow, Job]] | EngineError:
        """Bring the tier's Jobs and rows together; returns the Jobs that still run, or why that is not known."""
        try:
            return self._settled(tier, rows, self._engine.jobs(tier))
        except EngineError as error:
            return error

    def _settled(self, tier: Tier, rows: Sequence[JobRow], jobs: Sequence[Job]) -> list[tuple[JobRow, Job]]:
        by_name = {job.name: job for job in jobs}
        running: list[tuple[JobRow, Job]] = []
        for row in rows:
            job = by_name.pop(row.name, None)
            if job is None:  # it went with an earlier server, or somebody removed it: no prediction's fault
                self._end(row.name, row.tier, "it is no longer there", blame=False)
            elif job.phase is not Phase.RUNNING:
                self._end(row.name, row.tier, job.reason, job.phase, blame=job.phase is Phase.FAILED)
            elif self._overdue(row, tier):
                late = f"it asked for no work within {tier.waits.start:g} s"
                self._give_up(row, tier, tier.waits.start, f"{late}{': ' + job.reason if job.reason else ''}")
            elif self._silent(row):
                seconds = self._live.current.settings.lease.seconds
                self._give_up(row, tier, seconds, f"nothing was heard of it for {seconds:g} s")
            else:
                running.append((row, job))
        for name, job in by_name.items():
            if job.phase is not Phase.FAILED:  # a failed one can be looked at until its time to live is over
                self._engine.stop(name)
        return running

    def _overdue(self, row: JobRow, tier: Tier) -> bool:
        return row.asked_at is None and self._clock() - row.opened_at > tier.waits.start

    def _silent(self, row: JobRow) -> bool:
        now = self._clock()
        longest = self._live.current.settings.lease.seconds
        return row.heard_at is not None and now >= self._leases_count_at and now - row.heard_at > longest

    def _give_up(self, row: JobRow, tier: Tier, unheard: float, reason: str) -> None:
        """End a Job by force, unless it was heard of since its row was read."""
        if _ask(self._queue.give_up_job(row.name, unheard, reason, attempts=tier.limits.attempts)):
            log.warning("Job %s ended: %s", row.name, reason)
            self._engine.stop(row.name, at_once=True)

    def _end(self, name: str, tier: str, reason: str, phase: Phase = Phase.RUNNING, *, blame: bool = True) -> None:
        if blame:
            log.warning("Job %s ended: %s", name, reason)
        tiers = self._live.current.settings.tiers
        attempts = tiers[tier].limits.attempts if tier in tiers else 1
        _ask(self._queue.end_job(name, reason, blame=blame, attempts=attempts))
        if phase is not Phase.FAILED:
            self._engine.stop(name)

    def _serve(self, tier: Tier, running: list[tuple[JobRow, Job]] | EngineError, depth: Depth) -> TierView:
        """Start what the tier needs; returns what readers shall see of it."""
        if isinstance(running, EngineError):
            return TierView(reason=str(running))
        try:
            return self._started(tier, running, depth)
        except (RenderError, BadManifest, EngineError) as error:
            return TierView(running=len(running), reason=str(error))

    def _started(self, tier: Tier, running: list[tuple[JobRow, Job]], depth: Depth) -> TierView:
        starting = [job for row, job in running if row.asked_at is None]
        room = self._engine.room(tier, self._sample(tier))
        view = TierView(len(running), len(starting), room.jobs, room.quota)
        strikes = _ask(self._queue.strikes(tier.name))
        if (rest := self._rest(strikes)) > 0:
            return replace(view, reason=resting(strikes, rest))
        pace = 1 if strikes.count >= BREAKER_STRIKES else self._pace.get(tier.name, 1)
        planned = plan(depth, self._clock(), len(starting), len(running), room, pace)
        started, refusal = self._start(tier, planned.starts)
        self._pace[tier.name] = 2 * pace if started and not refusal else 1
        held_up = next((f": {job.reason}" for job in starting if job.reason), "")
        return replace(
            view,
            running=len(running) + started,
            starting=len(starting) + started,
            healthy=strikes.count < BREAKER_STRIKES,
            reason=refusal or (planned.reason and planned.reason + held_up),
        )

    def _sample(self, tier: Tier) -> Manifest:
        """A Job of the tier, to ask for room with: rendered now and then, not with every look, and tried out once."""
        manifest, at = self._samples.get(tier.name, (None, -math.inf))
        if manifest is None or self._clock() - at > SAMPLE_SECONDS:
            manifest = self._live.current.renderer.job(tier, SAMPLE_RUN, self._server_url)
            if manifest != self._tried.get(tier.name):
                self._engine.check(manifest)
                self._tried[tier.name] = manifest
            self._samples[tier.name] = (manifest, self._clock())
        return manifest

    def _start(self, tier: Tier, count: int) -> tuple[int, str]:
        """Start Jobs until one is refused; how many started, and the refusal."""
        for started in range(count):
            run = secrets.token_hex(RUN_BYTES)
            name = job_name(tier.name, run)
            try:
                manifest = self._live.current.renderer.job(tier, run, self._server_url)
            except RenderError as error:
                return started, str(error)
            _ask(self._queue.open_job(name, tier.name, run))
            reached(Point.JOB_OPENED)
            try:
                self._engine.start(manifest)
                reached(Point.JOB_STARTED)
            except NoRoom as error:
                _ask(self._queue.end_job(name, str(error), blame=False))
                return started, str(error)
            except BadManifest as error:
                self._end(name, tier.name, str(error))
                return started, str(error)
            except EngineError as error:  # whether it was started the next look will show
                return started, str(error)
            log.info("Job %s started", name)
        return count, ""

    def _rest(self, strikes: Strikes) -> float:
        return (strikes.last_ended_at or 0.0) + breaker_seconds(strikes.count) - self._clock()

    def _report(self, tier: str, view: TierView) -> None:
        """Tell readers, when there is news and every few ticks, so that they can see the dispatcher lives."""
        before, at = self._reported.get(tier, (TierView(healthy=True), -math.inf))
        now = self._clock()
        if view.healthy != before.healthy:
            log.warning("tier %s is %s", tier, "well again" if view.healthy else f"unhealthy: {view.reason}")
        if view != before or now - at >= 3 * self._live.current.settings.tick:
            _ask(self._queue.report(tier, view))
            self._reported[tier] = (view, now)

    def _reclaim(self, *, leases: bool) -> None:
        attempts = {tier.name: tier.limits.attempts for tier in self._live.current.settings.tiers.values()}
        while _ask(self._queue.reclaim(attempts, leases=leases)).more:
            pass

    def _tidy(self) -> None:
        kept = {tier.name: tier.waits.results for tier in self._live.current.settings.tiers.values()}
        try:
            while gone := _ask(self._queue.purge(kept)):
                self._blobs.delete(gone)
            old = self._blobs.older_than(ORPHAN_SECONDS)
            while page := list(islice(old, SWEEP_PAGE)):
                known = _ask(self._queue.known(page))
                self._blobs.delete(key for key in page if key not in known)
        except (BlobError, OSError) as error:
            log.warning("blobs that nobody needs are left for the next sweep: %s", error)


def _ask(future: Future[T]) -> T:
    return future.result(ANSWER_SECONDS)
