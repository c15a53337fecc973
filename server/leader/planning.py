"""How many Jobs each tier needs, and how long it rests when they are of no use. Pure: figures in, decisions out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from server.engines.base import Room
from server.queue import Depth, Strikes

HUNG_SECONDS = 1.0
BREAKER_STRIKES = 3
BREAKER_FIRST, BREAKER_MOST = 10.0, 300.0


@dataclass(frozen=True, slots=True)
class Demand:
    """One tier as it was just seen."""

    depth: Depth
    room: Room
    strikes: Strikes
    running: int
    """Its live Jobs."""
    starting: int
    """Those of them that have not asked for work yet."""
    held_up: str = ""
    """What keeps a starting Job from its work; empty when nothing is known."""
    pace: int = 1
    """How many Jobs one round may start: it doubles while starting succeeds, so Jobs that cannot start cost few."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for one tier."""

    starts: int
    """How many Jobs to start now."""
    reason: str
    """Why a waiting prediction waits; empty when none does."""
    healthy: bool = True
    """Whether the latest Jobs were of use."""


def plan(now: float, demands: Mapping[str, Demand]) -> dict[str, Plan]:
    """What to do for each tier."""
    return {name: _for_one(now, demand) for name, demand in demands.items()}


def _for_one(now: float, demand: Demand) -> Plan:
    """Each starting Job and each idle one will take at least one prediction, so that many need no further Job.

    An idle Job takes a prediction within milliseconds. If one has waited for ``HUNG_SECONDS``, the Jobs that look idle
    hang, and are not counted on.
    """
    healthy = demand.strikes.count < BREAKER_STRIKES
    if not healthy and (seconds := _rest(now, demand.strikes)) > 0:
        return Plan(0, _resting(demand.strikes, seconds), healthy)
    depth, running, starting = demand.depth, demand.running, demand.starting
    if not depth.queued:
        return Plan(0, "", healthy)
    waited = now - depth.oldest if depth.oldest is not None else 0.0
    # At least so many are idle: ``leased`` counts predictions, and a busy Job may hold several.
    idle = max(0, running - starting - depth.leased) if waited < HUNG_SECONDS else 0
    needed = max(0, depth.queued - starting - idle)
    starts = min(needed, demand.room.jobs, demand.pace if healthy else 1)
    if starts or not needed:
        reason = "a worker is starting"
    else:
        workers = f"{running} worker{'' if running == 1 else 's'} busy" if running else "no worker runs"
        reason = f"{workers}; {demand.room.reason}"
    return Plan(starts, f"{reason}: {demand.held_up}" if demand.held_up else reason, healthy)


def breaker_seconds(strikes: int) -> float:
    """How long a tier rests after so many Jobs in a row that never leased anything."""
    return 0.0 if strikes < BREAKER_STRIKES else min(BREAKER_MOST, BREAKER_FIRST * 2.0 ** (strikes - BREAKER_STRIKES))


def _rest(now: float, strikes: Strikes) -> float:
    return (strikes.last_ended_at or 0.0) + breaker_seconds(strikes.count) - now


def _resting(strikes: Strikes, seconds: float) -> str:
    return (
        f"the last {strikes.count} workers ended without taking work; the next one starts in {seconds:.0f} s; "
        f"the last one said: {strikes.last_reason}"
    )
