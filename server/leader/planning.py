"""How many Jobs each tier needs, and how long it rests when they are of no use. Pure: figures in, decisions out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace

from server.engines.base import Room
from server.leader.lending import Amounts, Claim, Portion, divide, standing
from server.queue import Breaker, Depth, Served, Serving, Strikes

HUNG_SECONDS = 1.0
START_SECONDS = 1.0  # that a worker takes, roughly, from its start until it asks for work
LONGEST_SECONDS = 10.0  # that a recalled worker takes for what it has begun
BREAKER_STRIKES = 3
BREAKER_FIRST, BREAKER_MOST = 10.0, 300.0
EXCEEDED = "more was in use than the capacity"


@dataclass(frozen=True, slots=True)
class Demand:
    """One tier as it was just seen: what concerns its main model, and the same for its canary, if it has one."""

    depth: Depth
    """What waits for this model, and what its workers hold."""
    room: Room
    """For Jobs of either model."""
    strikes: Strikes
    """Of Jobs with this model."""
    running: int
    """Its live Jobs."""
    starting: int
    """Those of them that have not asked for work yet."""
    fresh: int = 0
    """Those that asked for work for the first time less than ``HUNG_SECONDS`` ago."""
    held_up: str = ""
    """What keeps a starting Job from its work; empty when nothing is known."""
    pace: int = 1
    """How many Jobs one round may start: it doubles while starting succeeds, so Jobs that cannot start cost few."""
    remedy: str = ""
    """The command that helps if its workers are of no use."""
    seconds: float | None = None
    """How long a prediction took lately; None: that is not known."""
    proving: bool = False
    """Whether a first Job shall show that the model works, before anything waits for it."""
    canary: Demand | None = None
    went_back: str = ""
    """Why workers of the tier were recalled that it has not replaced yet; empty if none were."""

    def urgent(self, now: float, within: float) -> int:
        """For how many Jobs workers of other tiers may be recalled: so many more do what waits ``within`` this time.

        Its own workers do the rest sooner than room could be made. One that does not seem to come to it counts as none.
        """
        lacks = 0 if self.running else 1
        if self.seconds is not None:
            lacks = max(lacks, math.ceil(self.depth.queued * self.seconds / within) - self.running)
        if self.running > self.starting and self.depth.waited(now) >= within:
            lacks = max(lacks, 1)
        return lacks + (self.canary is not None and not self.canary.running)

    @property
    def resting(self) -> bool:
        """Whether its latest Jobs were of no use."""
        return self.strikes.count >= BREAKER_STRIKES


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for one tier."""

    starts: int
    """How many Jobs to start now."""
    reason: str
    """Why a waiting prediction waits; empty when none does."""
    healthy: bool = True
    """Whether the latest Jobs were of use."""
    breaker: Breaker | None = None
    """None if they were."""
    canary: Plan | None = None
    crowded: bool = False
    """Whether the canary has no Job and gets none unless one of several main ones makes room."""
    recalls: Sequence[str] = ()
    """Why each of its newest workers is recalled that may be."""
    room: int | None = None
    """How many Jobs the capacity had room for; None: any number."""


def lanes(depth: Depth) -> tuple[Depth, Depth]:
    """What concerns a tier's main model, and what concerns its canary."""
    part = depth.canary
    if part is None:
        return depth, Depth(0, 0, None)
    # Of two models the table tells the oldest prediction of both, and of the canary.
    oldest = None if depth.oldest == part.oldest else depth.oldest
    return Depth(depth.queued - part.queued, depth.leased - part.leased, oldest), Depth(*astuple(part))


@dataclass(frozen=True, slots=True)
class Capacity:
    """What all tiers may use together, and what each of them has of it; those that cannot be planned for, too."""

    hard: Amounts = field(default_factory=dict, hash=False)
    """Empty: as much as the quotas allow."""
    claims: Mapping[str, Claim] = field(default_factory=dict, hash=False)


def plan(now: float, demands: Mapping[str, Demand], capacity: Capacity = Capacity()) -> dict[str, Plan]:
    """What to do for each tier. With a capacity, each one's claim is in it."""
    alone = {name: _for_one(now, demand) for name, demand in demands.items()}
    if not capacity.hard:
        return alone
    wanted = {
        name: planned.starts + (planned.canary.starts if planned.canary else 0) for name, planned in alone.items()
    }
    borrowers = [name for name, one in standing(capacity.hard, capacity.claims).items() if one.borrowed]
    # A recalled worker finishes what it has begun.
    begun = max((demands[name].seconds or 0.0 for name in borrowers if name in demands), default=0.0)
    begun = min(LONGEST_SECONDS, begun)
    urgent = {name: demand.urgent(now, START_SECONDS + begun) for name, demand in demands.items()}
    portions = divide(capacity.hard, capacity.claims, wanted, urgent)
    plans = {}
    for name, planned in alone.items():
        why = _shortage(name, portions, capacity.claims)
        plans[name] = _within(demands[name], planned, portions[name], why)
    return plans


def _for_one(now: float, demand: Demand) -> Plan:
    """Both models of the tier share its room; while the canary has no Job, one place is kept for it.

    So the main model's workers leave something to the canary, however busy they are, unless they are only one.
    """
    canary, room = demand.canary, demand.room.jobs
    if canary is None:
        return _of_model(now, demand, room)
    absent = canary.running == 0 and _rested_at(canary.strikes) <= now
    main = _of_model(now, demand, max(0, room - 1) if absent and demand.running else room)
    wanted = canary.proving or canary.depth.queued > 0
    second = _of_model(now, canary, room - main.starts)
    return replace(main, canary=second, crowded=absent and wanted and room == 0 and demand.running > 1)


def _within(demand: Demand, planned: Plan, portion: Portion, shortage: str) -> Plan:
    """The plan for a tier, as far as the capacity has room for it. A canary without a Job comes first."""
    second, canary, starts = planned.canary, demand.canary, portion.starts
    crowded = planned.crowded
    if second is not None and canary is not None:
        first = second.starts if canary.running == 0 else max(0, starts - planned.starts)
        second = _shortened(canary, second, min(starts, first), shortage)
        starts -= second.starts
        lacks = planned.canary is not None and planned.canary.starts > second.starts and not portion.awaited
        crowded = crowded or (lacks and canary.running == 0 and demand.running > 1)
    shortened = _shortened(demand, planned, min(starts, planned.starts), shortage)
    recalls = tuple(f"lent quota went back to {name}" if name else EXCEEDED for name in portion.recalled_for)
    return replace(shortened, canary=second, crowded=crowded, recalls=recalls, room=portion.room)


def _shortened(demand: Demand, planned: Plan, starts: int, shortage: str) -> Plan:
    if starts == planned.starts:
        return planned
    return replace(planned, starts=starts, reason=planned.reason if starts else _waits(demand, shortage))


def _shortage(name: str, portions: Mapping[str, Portion], claims: Mapping[str, Claim]) -> str:
    """Why the capacity lets a tier start no Job more now."""
    mine = portions[name]
    if not mine.awaited:
        first = [other for other, one in portions.items() if one.starts + one.awaited and other != name]
        return mine.limit or f"what is free of the capacity goes to {_list(first)}"
    givers = [one for one, claim in claims.items() if one != name and (claim.recalled or portions[one].recalled_for)]
    return f"workers of {_list(givers)} hand back what was lent" if givers else "room of the capacity comes free"


def _list(names: Sequence[str]) -> str:
    return " and ".join(sorted(names))


def _of_model(now: float, demand: Demand, room: int) -> Plan:
    """Each starting Job and each idle one will take at least one prediction, so that many need no further Job.

    An idle Job takes a prediction within milliseconds. If one has waited for ``HUNG_SECONDS``, the Jobs that look idle
    for as long hang, and are not counted on.
    """
    healthy, breaker = not demand.resting, None
    if not healthy:
        breaker = Breaker(demand.strikes.count, _rested_at(demand.strikes))
        if (seconds := breaker.retry_at - now) > 0:
            return Plan(0, _resting(demand, seconds), healthy, breaker)
    depth, running, starting = demand.depth, demand.running, demand.starting
    proof = 1 if demand.proving and not running else 0
    if not depth.queued and not proof:
        return Plan(0, "", healthy, breaker)
    # At least so many are idle: ``leased`` counts predictions, and a busy Job may hold several.
    idle = max(0, running - starting - depth.leased)
    if depth.waited(now) >= HUNG_SECONDS:
        idle = min(idle, demand.fresh)
    needed = max(proof, depth.queued - starting - idle)
    starts = min(needed, room, demand.pace if healthy else 1)
    reason = "a worker is starting" if starts or not needed else _waits(demand, demand.room.reason)
    return Plan(starts, f"{reason}: {demand.held_up}" if demand.held_up else reason, healthy, breaker)


def _waits(demand: Demand, why: str) -> str:
    running = demand.running
    workers = f"{running} worker{'' if running == 1 else 's'} busy" if running else "no worker runs"
    return "; ".join(filter(None, (workers, demand.went_back, why)))


def obstacle(canary: Demand) -> str:
    """Why a tier's canary gets no predictions now; empty if it gets its part.

    It must have shown once that a worker of it asks for work, so that no prediction waits for one that never does. If
    it has no worker later, and no room for one, the main model answers in its place.
    """
    if canary.running > canary.starting:
        return ""
    if canary.resting:
        strikes = canary.strikes
        return f"the last {strikes.count} workers ended without taking work; the last one said: {strikes.last_reason}"
    if canary.proving:
        return f"no worker of it has asked for work yet{canary.held_up and ': '}{canary.held_up}"
    if canary.depth.queued and not canary.running and not canary.room.jobs:
        return "there is no room for a worker of it"
    return ""


def remedy(tier: str, serving: Serving, model: Served) -> str:
    """What helps if the workers of a tier's main model are of no use."""
    back = (
        [f"to go back to {serving.previous[0].reference}: tierserve model rollback {tier}"] if serving.previous else []
    )
    return "; ".join([f"they run {model.reference}", *back])


def breaker_seconds(strikes: int) -> float:
    """How long a tier rests after so many Jobs in a row that never leased anything."""
    return 0.0 if strikes < BREAKER_STRIKES else min(BREAKER_MOST, BREAKER_FIRST * 2.0 ** (strikes - BREAKER_STRIKES))


def _rested_at(strikes: Strikes) -> float:
    return (strikes.last_ended_at or 0.0) + breaker_seconds(strikes.count)


def _resting(demand: Demand, seconds: float) -> str:
    strikes, remedy = demand.strikes, f"; {demand.remedy}" if demand.remedy else ""
    return (
        f"the last {strikes.count} workers ended without taking work; the next one starts in {seconds:.0f} s; "
        f"the last one said: {strikes.last_reason}{remedy}"
    )
