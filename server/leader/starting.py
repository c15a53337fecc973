"""Starts Jobs: look at every tier, plan for all of them, act. It can be killed and re-run at any moment.

It asks the queue's tables and the engine for everything anew each time. It remembers only how fast it may start Jobs,
what it told, and which manifests it tried. Handlers never start anything: they nudge, and a lost nudge costs one tick.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TypeVar

from server.engines.base import Engine, EngineError, NoRoom
from server.leader.answers import answer
from server.leader.jobs import Crew, Jobs
from server.leader.planning import Demand, Plan, plan
from server.leader.reports import Reports
from server.leader.term import Term
from server.points import Point, reached
from server.queue import Depth, JobRow, Queue, QueueError, TierView
from server.settings.blueprints import Blueprints, InForce
from server.settings.live import Live
from server.settings.manifests import BadManifest, Manifest, NamedModel, job_name
from server.settings.records import Tier
from server.settings.render import SAMPLE_RUN, RenderError

log = logging.getLogger(__name__)

REPORT_TICKS = 3  # ``/readyz`` takes a view for stale after ten
RUN_BYTES = 5
REASON_CHARACTERS = 2000  # a template can have many findings, and each answer about a prediction contains the reason
TROUBLE = (EngineError, RenderError, BadManifest)  # of one tier; the others go on
SHARED = (QueueError, TimeoutError)  # the database is away, for all tiers

T = TypeVar("T")
Alive = Callable[[Mapping[str, Depth]], Mapping[str, Depth]]
"""Adds to the depths of the table what this server has that is not in it; called from any thread."""

EMPTY = Depth(0, 0, None)


class Starting:
    """Works for one thread. ``clock`` gives epoch seconds, as the queue's rows have them."""

    def __init__(
        self, live: Live, queue: Queue, engine: Engine, server_url: str, clock: Callable[[], float], alive: Alive
    ) -> None:
        self._alive = alive
        self._live, self._queue, self._engine = live, queue, engine
        self._server_url, self._clock = server_url, clock
        self._jobs = Jobs(queue, engine, clock)
        self._term: Term | None = None
        self._reports = Reports(queue, clock)
        self._pace: dict[str, int] = {}
        self._odd: dict[str, str] = {}
        self._samples: dict[str, tuple[Blueprints, Manifest]] = {}

    def step(self, term: Term | None) -> None:
        """Take changed settings up; then, if this server leads, start what is needed and tell what was seen."""
        self._take_up_changes()
        if term is None or term.over:
            return
        if term is not self._term:  # another leader may have told something else meanwhile
            self._term, self._reports = term, Reports(self._queue, self._clock)
        current = self._live.current
        found = self._look(current, term)
        plans = plan(self._clock(), {name: seen for name, seen in found.items() if isinstance(seen, Demand)})
        for name, seen in found.items():
            if isinstance(seen, Demand):
                seen = self._act(current.settings.tiers[name], current.blueprints, seen, plans[name])
            self._reports.tell(name, seen, REPORT_TICKS * current.settings.tick)

    def _take_up_changes(self) -> None:
        try:
            self._live.refresh(self._engine.check)
        except EngineError as error:
            log.warning("changed settings and templates wait until they can be tried: %s", error)

    def _look(self, current: InForce, term: Term) -> dict[str, Demand | TierView]:
        """Every tier, as it can be planned for, or as it is told of because it cannot be."""
        rows: dict[str, list[JobRow]] = defaultdict(list)
        for row in answer(self._queue.jobs()):
            rows[row.tier].append(row)
        silence = current.settings.lease.seconds if term.leases_count(self._clock()) else math.inf
        tiers = current.settings.tiers
        crews = {name: self._reconcile(tier, rows[name], silence) for name, tier in tiers.items()}
        # After the Jobs that are over were ended: what they held waits again.
        table: dict[str, Depth] = answer(self._queue.depths())
        depths = self._alive(table)
        return {
            name: crew
            if isinstance(crew, TierView)
            else self._weigh(tiers[name], crew, depths.get(name, EMPTY), current)
            for name, crew in crews.items()
        }

    def _reconcile(self, tier: Tier, rows: list[JobRow], silence: float) -> Crew | TierView:
        crew = self._of_tier(tier, lambda: self._jobs.reconcile(tier, rows, silence))
        return TierView(reason=crew) if isinstance(crew, str) else crew

    def _weigh(self, tier: Tier, crew: Crew, depth: Depth, current: InForce) -> Demand | TierView:
        room = self._of_tier(tier, lambda: self._engine.room(tier, self._sample(tier, current.blueprints)))
        if isinstance(room, str):
            return TierView(crew.running, crew.starting, reason=room)
        strikes, pace = answer(self._queue.strikes(tier.name)), self._pace.get(tier.name, 1)
        return Demand(depth, room, strikes, crew.running, crew.starting, crew.held_up, pace)

    def _sample(self, tier: Tier, blueprints: Blueprints) -> Manifest:
        """A Job of the tier, to ask for room with: tried out once for each state of the templates."""
        kept = self._samples.get(tier.name)
        if kept is not None and kept[0] is blueprints:  # ``Live`` makes a new one for changed values, too
            return kept[1]
        manifest = blueprints.job(tier.name, SAMPLE_RUN, self._server_url)
        self._engine.check(manifest)
        self._samples[tier.name] = blueprints, manifest
        return manifest

    def _act(self, tier: Tier, blueprints: Blueprints, demand: Demand, planned: Plan) -> TierView:
        """Start what was planned; returns what readers shall see of the tier."""
        started, obstacle = self._start(tier, blueprints, planned.starts)
        kept_up = planned.healthy and 0 < started == planned.starts
        self._pace[tier.name] = 2 * demand.pace if kept_up else 1
        return TierView(
            running=demand.running + started,
            starting=demand.starting + started,
            room=demand.room.jobs,
            quota=demand.room.quota,
            healthy=planned.healthy,
            reason=obstacle or planned.reason,
            caution=self._of_tier(tier, lambda: self._engine.caution(tier)),
        )

    def _start(self, tier: Tier, blueprints: Blueprints, count: int) -> tuple[int, str]:
        """Start Jobs until one cannot be; how many started, and why no more."""
        for started in range(count):
            if obstacle := self._of_tier(tier, lambda: self._start_one(tier, blueprints)):
                return started, obstacle
        return count, ""

    def _of_tier(self, tier: Tier, work: Callable[[], T]) -> T | str:
        """Return the result of ``work``, or what went wrong with it. Raises only what concerns all tiers."""
        try:
            return work()
        except SHARED:
            raise
        except TROUBLE as error:
            return str(error)[:REASON_CHARACTERS]
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"[:REASON_CHARACTERS]
            if self._odd.get(tier.name) != reason:
                log.exception("tier %s cannot be looked after", tier.name)
            self._odd[tier.name] = reason
            return reason

    def _start_one(self, tier: Tier, blueprints: Blueprints) -> None:
        run = secrets.token_hex(RUN_BYTES)
        name = job_name(tier.name, run)
        manifest = blueprints.job(tier.name, run, self._server_url, NamedModel(tier.model.name, ""))
        answer(self._queue.open_job(name, tier.name, run))
        reached(Point.JOB_OPENED)
        try:
            self._engine.start(tier, manifest)
        except (NoRoom, BadManifest) as error:  # after any other error the Job may exist: the next look shows it
            self._jobs.end(name, tier, str(error), blame=isinstance(error, BadManifest))
            raise
        reached(Point.JOB_STARTED)
        log.info("Job %s started", name)
