"""The one loop that starts Jobs: reclaim, look, plan, render, start, tidy. It can be killed and re-run at any moment.

Everything it knows is asked anew each time, from the queue's tables and from the engine; all that it keeps is how fast
it may start, and for a few seconds what it would start. Handlers never start anything: they nudge, and a lost nudge
costs one tick.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from server.blobs import DirectoryBlobs
from server.config import Settings, Tier
from server.engines.base import Engine, EngineError, Job, Manifest, NoRoom, Phase, Room, job_name
from server.queue.errors import QueueError
from server.queue.queue import Queue
from server.queue.records import Depth, JobRow, Strikes
from server.render import Renderer, RenderError

T = TypeVar("T")

log = logging.getLogger(__name__)

ANSWER_SECONDS = 30.0
QUIET_SECONDS = 0.25
HUNG_SECONDS = 1.0
TIDY_SECONDS = 60.0
SAMPLE_SECONDS = 5.0
ORPHAN_SECONDS = 3600.0
BREAKER_STRIKES = 3
BREAKER_FIRST, BREAKER_MOST = 10.0, 300.0
RUN_BYTES = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """How many Jobs of a tier to start now, and why a waiting prediction waits."""

    starts: int
    reason: str


def plan(depth: Depth, now: float, starting: int, running: int, room: Room, pace: int) -> Plan:
    """What to do for a tier with ``running`` Jobs, ``starting`` of which have not asked for work yet.

    Each starting Job and each idle one will take at least one prediction, so that many need no further Job; but what
    has waited for a while no idle Job wants, it must have hung. ``pace`` bounds one round: it doubles from 1 while
    starting succeeds, so that a tier whose Jobs cannot start costs few.
    """
    queued = depth.queued
    waited = now - depth.oldest if depth.oldest is not None else 0.0
    idle = max(0, running - starting - depth.leased) if waited < HUNG_SECONDS else 0
    needed = max(0, queued - starting - idle)
    starts = min(needed, room.jobs, pace)
    if not queued:
        return Plan(0, "")
    if starts:
        return Plan(starts, "a worker is starting")
    if not needed:
        return Plan(0, "a worker is starting")
    workers = f"{running} worker{'' if running == 1 else 's'} busy" if running else "no worker runs"
    return Plan(0, f"{workers}; {room.reason}")


def breaker_seconds(strikes: int) -> float:
    """How long a tier rests after so many Jobs in a row that never leased anything."""
    return 0.0 if strikes < BREAKER_STRIKES else min(BREAKER_MOST, BREAKER_FIRST * 2.0 ** (strikes - BREAKER_STRIKES))


class Dispatcher:
    """Runs on a thread of its own. ``clock`` gives epoch seconds, as the queue's rows have them."""

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        blobs: DirectoryBlobs,
        engine: Engine,
        renderer: Renderer,
        server_url: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._queue, self._blobs = settings, queue, blobs
        self._engine, self._renderer, self._server_url = engine, renderer, server_url
        self._clock = clock
        self._nudged = threading.Event()
        self._stopping = threading.Event()
        self._pace = dict.fromkeys(settings.tiers, 1)
        self._reclaim_at = self._tidy_at = -math.inf
        self._samples: dict[str, tuple[Manifest, float]] = {}
        self._reported: dict[str, tuple[Mapping[str, Any], float]] = {}

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
                log.exception("the dispatcher stumbled; it looks again in %g s", self._settings.tick)
            self._stopping.wait(QUIET_SECONDS)
            self._nudged.wait(self._settings.tick - QUIET_SECONDS)
            self._nudged.clear()
        self._engine.close()

    def tick(self) -> None:
        """Look once, and take the steps that follow."""
        now = self._clock()
        if now >= self._reclaim_at:
            self._reclaim_at = now + self._settings.lease.reclaim
            self._reclaim()
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_SECONDS
            self._tidy()
        try:
            rows = self._settle(self._engine.jobs())
        except EngineError as error:
            for tier in self._settings.tiers.values():
                self._report(tier, _unhealthy(str(error)))
            raise
        depths = _ask(self._queue.depths())
        for tier in self._settings.tiers.values():
            mine = [row for row in rows if row.tier == tier.name]
            self._report(tier, self._serve(tier, depths.get(tier.name), mine))
        for gone in depths.keys() - self._settings.tiers.keys():
            if depths[gone].queued or depths[gone].leased:
                _ask(self._queue.abort_tier(gone, "tier_removed", f"the tier {gone} is no longer offered"))

    def _settle(self, jobs: Sequence[Job]) -> list[JobRow]:
        """Bring the engine's Jobs and the queue's rows together; returns the rows of Jobs that still run."""
        by_name = {job.name: job for job in jobs}
        live: list[JobRow] = []
        for row in _ask(self._queue.jobs()):
            job = by_name.pop(row.name, None)
            if job is None:  # it went with an earlier server, or somebody removed it: no prediction's fault
                self._end(row.name, row.tier, "it is no longer there", blame=False)
            elif job.phase is not Phase.RUNNING:
                self._end(row.name, row.tier, job.reason, blame=job.phase is Phase.FAILED)
            elif reason := self._overdue(row):
                detail = f"{reason}{': ' + job.reason if job.reason else ''}"
                self._end(row.name, row.tier, detail, blame=row.tier in self._settings.tiers)
            else:
                live.append(row)
        for name in by_name:
            self._engine.stop(name)
        return live

    def _overdue(self, row: JobRow) -> str:
        tier = self._settings.tiers.get(row.tier)
        if tier is None:
            return "its tier was removed"
        late = row.asked_at is None and self._clock() - row.opened_at > tier.waits.start
        return f"it asked for no work within {tier.waits.start:g} s" if late else ""

    def _end(self, name: str, tier: str, reason: str, *, blame: bool = True) -> None:
        if blame:
            log.warning("Job %s ended: %s", name, reason)
        attempts = self._settings.tiers[tier].limits.attempts if tier in self._settings.tiers else 1
        _ask(self._queue.end_job(name, reason, blame=blame, attempts=attempts))
        self._engine.stop(name)

    def _serve(self, tier: Tier, depth: Depth | None, rows: Sequence[JobRow]) -> dict[str, Any]:
        """Start what the tier needs; returns what readers shall see of it."""
        starting = sum(row.asked_at is None for row in rows)
        view = {"running": len(rows), "starting": starting, "room": 0, "quota": {}, "healthy": True, "reason": ""}
        try:
            room = self._engine.room(tier.name, self._sample(tier))
        except (RenderError, EngineError) as error:
            return view | _unhealthy(str(error))
        view |= {
            "room": room.jobs,
            "quota": {name: {"hard": usage.hard, "used": usage.used} for name, usage in room.quota.items()},
        }
        strikes = _ask(self._queue.strikes(tier.name))
        if (rest := self._rest(strikes)) > 0:
            return view | _unhealthy(_resting(strikes, rest))
        pace = 1 if strikes.count >= BREAKER_STRIKES else self._pace[tier.name]
        planned = plan(depth or Depth(0, 0, None), self._clock(), starting, len(rows), room, pace)
        started, refusal = self._start(tier, planned.starts)
        self._pace[tier.name] = 2 * pace if started and not refusal else 1
        return {
            **view,
            "running": len(rows) + started,
            "starting": starting + started,
            "healthy": strikes.count < BREAKER_STRIKES,
            "reason": refusal or planned.reason,
        }

    def _sample(self, tier: Tier) -> Manifest:
        """A Job of the tier, to ask for room with: rendered now and then, not with every look."""
        manifest, at = self._samples.get(tier.name, (None, -math.inf))
        if manifest is None or self._clock() - at > SAMPLE_SECONDS:
            manifest = self._renderer.job(tier, "sample", self._server_url)
            self._samples[tier.name] = (manifest, self._clock())
        return manifest

    def _start(self, tier: Tier, count: int) -> tuple[int, str]:
        """Start Jobs until one is refused; how many started, and the refusal."""
        for started in range(count):
            run = secrets.token_hex(RUN_BYTES)
            name = job_name(tier.name, run)
            try:
                manifest = self._renderer.job(tier, run, self._server_url)
            except RenderError as error:
                return started, str(error)
            _ask(self._queue.open_job(name, tier.name, run))
            try:
                self._engine.start(manifest)
            except NoRoom as error:
                _ask(self._queue.end_job(name, str(error), blame=False))
                return started, str(error)
            except EngineError as error:
                self._end(name, tier.name, str(error))
                return started, str(error)
            log.info("Job %s started", name)
        return count, ""

    def _rest(self, strikes: Strikes) -> float:
        return (strikes.last_ended_at or 0.0) + breaker_seconds(strikes.count) - self._clock()

    def _report(self, tier: Tier, view: Mapping[str, Any]) -> None:
        """Tell readers, when there is news and every few ticks, so that they can see the dispatcher lives."""
        before, at = self._reported.get(tier.name, ({}, -math.inf))
        now = self._clock()
        if view != before or now - at >= 3 * self._settings.tick:
            _ask(self._queue.report(tier.name, dict(view)))
            self._reported[tier.name] = (view, now)

    def _reclaim(self) -> None:
        attempts = {tier.name: tier.limits.attempts for tier in self._settings.tiers.values()}
        while _ask(self._queue.reclaim(attempts)).more:
            pass

    def _tidy(self) -> None:
        kept = {tier.name: tier.waits.results for tier in self._settings.tiers.values()}
        while gone := _ask(self._queue.purge(kept)):
            self._blobs.delete(gone)
        suspects = list(self._blobs.older_than(ORPHAN_SECONDS))
        for start in range(0, len(suspects), 500):
            page = suspects[start : start + 500]
            known = _ask(self._queue.known(page))
            self._blobs.delete(key for key in page if key not in known)


def _ask(future: Future[T]) -> T:
    return future.result(ANSWER_SECONDS)


def _unhealthy(reason: str) -> dict[str, Any]:
    return {"healthy": False, "reason": reason}


def _resting(strikes: Strikes, seconds: float) -> str:
    return (
        f"the last {strikes.count} workers ended without taking work; the next one starts in {seconds:.0f} s; "
        f"the last one said: {strikes.last_reason}"
    )
