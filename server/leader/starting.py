"""Starts Jobs: look at every tier, plan for all of them, act. It can be killed and re-run at any moment.

It asks the queue's tables and the engine for everything anew each time. It remembers only how fast it may start Jobs,
what it told, and which manifests it tried. Handlers never start anything: they nudge, and a lost nudge costs one tick.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from server.engines.base import Engine, EngineError, NoRoom, Room, needs
from server.leader.answers import answer
from server.leader.claiming import Claiming, amounts, unseen
from server.leader.deciding import Deciding
from server.leader.jobs import Crew, Crews, Jobs, Member
from server.leader.lending import Claim, standing
from server.leader.paging import pages
from server.leader.planning import HUNG_SECONDS, Capacity, Demand, Plan, lanes, obstacle, plan, remedy
from server.leader.reports import Reports
from server.leader.term import Term
from server.models import Catalog, startable
from server.points import Point, reached
from server.queue import Depth, JobRow, Lane, Queue, QueueError, Served, Serving, TierView
from server.settings.blueprints import Blueprints, InForce
from server.settings.live import Live
from server.settings.manifests import BadManifest, Manifest, job_name
from server.settings.records import Tier
from server.settings.render import SAMPLE_RUN, RenderError

log = logging.getLogger(__name__)

REPORT_TICKS = 3  # ``/readyz`` takes a view for stale after ten
RUN_BYTES = 5
REASON_CHARACTERS = 2000  # a template can have many findings, and each answer about a prediction contains the reason
TROUBLE = (EngineError, RenderError, BadManifest)  # of one tier; the others go on
SHARED = (QueueError, TimeoutError)  # the database is away, for all tiers

T = TypeVar("T")
Started = tuple[int, str]
"""How many Jobs were started, and why no more were, or why something waits."""
Alive = Callable[[Mapping[str, Depth]], Mapping[str, Depth]]
"""Adds to the depths of the table what this server has that is not in it; called from any thread."""

NOTHING = Depth(0, 0, None)


@dataclass(frozen=True, slots=True)
class Seen:
    """A tier as it can be planned for."""

    crews: Crews
    serving: Serving
    demand: Demand
    claim: Claim
    recallable: Sequence[Member]
    """As in ``claim``."""


class Starting:
    """Works for one thread. ``clock`` gives epoch seconds, as the queue's rows have them."""

    def __init__(
        self,
        live: Live,
        queue: Queue,
        engine: Engine,
        server_url: str,
        clock: Callable[[], float],
        alive: Alive,
        catalog: Catalog,
    ) -> None:
        self._alive = alive
        self._live, self._queue, self._engine = live, queue, engine
        self._server_url, self._clock = server_url, clock
        self._jobs, self._deciding = Jobs(queue, engine, clock), Deciding(queue, catalog, clock)
        self._term: Term | None = None
        self._reports = Reports(queue, clock)
        self._pace: dict[tuple[str, bool], tuple[str, int]] = {}  # a new model begins slowly
        self._made_room: dict[str, float] = {}
        self._claiming = Claiming(clock)
        self._went_back: dict[str, str] = {}
        self.awaits_room = False  # whether something comes free of the capacity soon
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
        found, capacity = self._look(current, term)
        plans = plan(
            self._clock(), {name: one.demand for name, one in found.items() if isinstance(one, Seen)}, capacity
        )
        standings = standing(capacity.hard, capacity.claims)
        for name, seen in found.items():
            if isinstance(seen, Seen):
                seen = self._act(current.settings.tiers[name], current.blueprints, seen, plans[name])
            seen = replace(seen, lending=standings.get(name))
            self._reports.tell(name, seen, REPORT_TICKS * current.settings.tick)
        recalled = any(one.recalls for one in plans.values())
        self.awaits_room = recalled or any(any(one.going.values()) for one in capacity.claims.values())

    def _take_up_changes(self) -> None:
        try:
            self._live.refresh(self._engine.check, self._deciding.check)
        except EngineError as error:
            log.warning("changed settings and templates wait until they can be tried: %s", error)

    def _look(self, current: InForce, term: Term) -> tuple[dict[str, Seen | TierView], Capacity]:
        """Every tier, as it can be planned for, or as it is told of because it cannot be; and what each one has."""
        rows: dict[str, list[JobRow]] = defaultdict(list)
        for row in answer(self._queue.jobs()):
            rows[row.tier].append(row)
        silence = current.settings.lease.seconds if term.leases_count(self._clock()) else math.inf
        tiers = current.settings.tiers
        served = self._deciding.step(tiers)
        crews = {name: self._reconcile(tier, rows[name], silence, served[name]) for name, tier in tiers.items()}
        # After the Jobs that are over were ended: what they held waits again.
        table: dict[str, Depth] = answer(self._queue.depths())
        depths = self._alive(table)
        found = {
            name: crew
            if isinstance(crew, TierView)
            else self._weigh(tiers[name], crew, depths.get(name, NOTHING), current, served[name], term)
            for name, crew in crews.items()
        }
        if not (hard := amounts(current.settings.capacity)):
            return found, Capacity()
        claims = {
            name: one.claim if isinstance(one, Seen) else unseen(tiers[name], len(rows[name]))
            for name, one in found.items()
        }
        return found, Capacity(hard, claims)

    def _reconcile(self, tier: Tier, rows: list[JobRow], silence: float, serving: Serving) -> Crews | TierView:
        crews = self._of_tier(tier, lambda: self._jobs.reconcile(tier, rows, silence, serving))
        return TierView(reason=crews) if isinstance(crews, str) else crews

    def _weigh(
        self, tier: Tier, crews: Crews, depth: Depth, current: InForce, serving: Serving, term: Term
    ) -> Seen | TierView:
        sample = self._of_tier(tier, lambda: self._sample(tier, current.blueprints))
        if isinstance(sample, str):
            return TierView(crews.running, crews.starting, reason=sample)
        room = self._of_tier(tier, lambda: self._engine.room(tier, sample))
        if isinstance(room, str):
            return TierView(crews.running, crews.starting, reason=room)
        served = serving.main
        if served is None or not startable(serving, tier.model):
            serving = self._deciding.settle(tier, serving, "")
            return TierView(crews.running, crews.starting, reason=serving.problem)
        canary = self._canary(tier, crews.canary, depth, room, serving)
        serving = self._deciding.settle(tier, serving, obstacle(canary) if canary else "")
        if not serving.percent and depth.canary is not None:
            depth = self._end_canary(tier, depth, depth.canary, term)
        main = Demand(
            depth=lanes(depth)[0],
            room=room,
            **self._of_model(tier, served, crews.main, canary=False),
            remedy=remedy(tier.name, serving, served),
            canary=self._canary(tier, crews.canary, depth, room, serving),
            seconds=answer(self._queue.pace(tier.name)).predict_seconds if current.settings.capacity else None,
            went_back=self._went_back.get(tier.name, ""),
        )
        recallable = crews.main.recallable(self._clock())
        return Seen(crews, serving, main, self._claiming.claim(tier, crews, room, amounts(needs(sample))), recallable)

    def _canary(self, tier: Tier, crew: Crew, depth: Depth, room: Room, serving: Serving) -> Demand | None:
        if serving.canary is None:
            return None
        return Demand(
            depth=lanes(depth)[1],
            room=room,
            **self._of_model(tier, serving.canary, crew, canary=True),
            proving=not serving.percent,
        )

    def _of_model(self, tier: Tier, model: Served, crew: Crew, *, canary: bool) -> dict[str, Any]:
        return {
            "strikes": answer(self._queue.strikes(tier.name, model.key)),
            "running": crew.running,
            "starting": crew.starting,
            "fresh": crew.fresh(self._clock(), HUNG_SECONDS),
            "held_up": crew.held_up,
            "pace": self._pace_of(tier, model, canary=canary),
        }

    def _pace_of(self, tier: Tier, model: Served, *, canary: bool) -> int:
        of, pace = self._pace.get((tier.name, canary), ("", 1))
        return pace if of == model.key else 1

    def _end_canary(self, tier: Tier, depth: Depth, part: Lane, term: Term) -> Depth:
        """Give what waits for a canary that gets no predictions to the main model."""
        if part.queued:
            for moved in pages(lambda: self._queue.end_canary(tier.name), term):
                if not moved:
                    break
        return replace(depth, canary=Lane(0, part.leased, None))

    def _sample(self, tier: Tier, blueprints: Blueprints) -> Manifest:
        """A Job of the tier, to ask for room with: tried out once for each state of the templates."""
        kept = self._samples.get(tier.name)
        if kept is not None and kept[0] is blueprints:  # ``Live`` makes a new one for changed values, too
            return kept[1]
        manifest = blueprints.job(tier.name, SAMPLE_RUN, self._server_url)
        self._engine.check(manifest)
        self._samples[tier.name] = blueprints, manifest
        return manifest

    def _act(self, tier: Tier, blueprints: Blueprints, seen: Seen, planned: Plan) -> TierView:
        """Start what was planned; returns what readers shall see of the tier."""
        crews, serving, room = seen.crews, seen.serving, seen.demand.room
        started, reason = self._start(tier, blueprints, serving, planned, canary=False)
        if planned.canary is not None:
            more, why = self._start(tier, blueprints, serving, planned.canary, canary=True)
            started, reason = started + more, reason or (why and f"the canary: {why}")
            if planned.crowded:
                self._make_room(tier, crews.main.youngest)
        if started or not reason:
            self._went_back.pop(tier.name, None)
        for member, why in zip(seen.recallable, planned.recalls, strict=False):
            self._went_back[tier.name] = why
            self._jobs.recall(member, why)
        if reason and crews.outdated:
            reason += f"; {len(crews.outdated)} with an earlier model finish what they hold"
        return TierView(
            running=crews.running + started,
            starting=crews.starting + started,
            room=room.jobs if planned.room is None else min(room.jobs, planned.room),
            quota=room.quota,
            healthy=planned.healthy,
            breaker=planned.breaker,
            reason=reason,
            caution=self._of_tier(tier, lambda: self._engine.caution(tier)),
        )

    def _start(self, tier: Tier, blueprints: Blueprints, serving: Serving, planned: Plan, *, canary: bool) -> Started:
        """Start Jobs with one of the tier's models until one cannot be started."""
        model, started = serving.canary if canary else serving.main, 0
        problem: str | None = None
        if model is None:
            return 0, planned.reason
        while started < planned.starts and not problem:
            problem = self._of_tier(tier, partial(self._start_one, tier, blueprints, model))
            started += not problem
        kept_up = planned.healthy and 0 < started == planned.starts
        pace = 2 * self._pace_of(tier, model, canary=canary) if kept_up else 1
        self._pace[tier.name, canary] = model.key, pace
        return started, problem or planned.reason

    def _make_room(self, tier: Tier, youngest: str) -> None:
        """Have one worker of the main model end, so that a first one of the canary can start."""
        now = self._clock()
        if now - self._made_room.get(tier.name, -math.inf) < tier.waits.start:
            return  # what was stopped takes its time, and so does what starts then
        self._made_room[tier.name] = now
        log.info("Job %s makes room for the canary of tier %s", youngest, tier.name)
        self._of_tier(tier, lambda: self._engine.stop(youngest))

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

    def _start_one(self, tier: Tier, blueprints: Blueprints, model: Served) -> None:
        run = secrets.token_hex(RUN_BYTES)
        name = job_name(tier.name, run)
        manifest = blueprints.job(tier.name, run, self._server_url, model)
        answer(self._queue.open_job(name, tier.name, run, model.key))
        reached(Point.JOB_OPENED)
        try:
            self._engine.start(tier, manifest)
        except (NoRoom, BadManifest) as error:  # after any other error the Job may exist: the next look shows it
            self._jobs.end(name, tier, str(error), blame=isinstance(error, BadManifest))
            raise
        reached(Point.JOB_STARTED)
        log.info("Job %s started with %s", name, model.key)
