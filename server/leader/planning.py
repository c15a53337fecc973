"""How many Jobs a tier needs, and how long it rests when they are of no use. Pure: figures in, a decision out."""

from __future__ import annotations

from dataclasses import dataclass

from server.engines.base import Room
from server.queue.facts.records import Depth, Strikes

HUNG_SECONDS = 1.0
BREAKER_STRIKES = 3
BREAKER_FIRST, BREAKER_MOST = 10.0, 300.0


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


def resting(strikes: Strikes, seconds: float) -> str:
    """What those who wait are told meanwhile."""
    return (
        f"the last {strikes.count} workers ended without taking work; the next one starts in {seconds:.0f} s; "
        f"the last one said: {strikes.last_reason}"
    )
