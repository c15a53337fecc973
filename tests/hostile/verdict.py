"""Judges what was seen while the server was attacked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.hostile.oddities import SECRET
from tests.hostile.seen import Sample, Stretch, statuses

MOST_MB = 400.0
LOG_BYTES = 8192
# Of requests to the tier that is not attacked, from an address that no attacker uses.
DONE_SHARE = 0.9
TIMES = 2.0
# Twice a few milliseconds says nothing on a machine that also runs the attackers.
FLOOR_SECONDS = 0.05
# A connection that waits for its client may be closed for another one just when its client asks.
LOST_MOST = 1
OTHERS = ("healthz", "premium")
REFUSALS = (429, 503)


@dataclass(frozen=True, slots=True)
class Round:
    """One attack: what honest clients saw before it and during it, what the server wrote, which process ``ended``."""

    before: Stretch
    during: Stretch
    log: bytes
    ended: str = ""


def broken(one: Round) -> list[str]:
    """What must never happen, however busy the machine is."""
    found = [*_lost(one.during.samples)]
    if one.ended:
        found.append(one.ended)
    if one.during.peak_mb > MOST_MB:
        found.append(f"the server took {one.during.peak_mb:.0f} MB; {MOST_MB:.0f} are allowed")
    if b"Traceback" in one.log:
        found.append("there is a traceback in the log")
    if SECRET.encode() in one.log:
        found.append("a key is in the log")
    if len(one.log) > LOG_BYTES:
        found.append(f"the log grew by {len(one.log)} bytes; {LOG_BYTES} are allowed")
    for kind in OTHERS:
        asked = [sample for sample in one.during.of(kind) if sample.apart]
        if asked and sum(sample.done for sample in asked) < DONE_SHARE * len(asked):
            found.append(f"{kind}: of {len(asked)} requests too few were done: {statuses(asked)}")
    return found


def slow(one: Round, floor: float = FLOOR_SECONDS) -> list[str]:
    """Which honest requests took longer than they may: twice as long as usual, or ``floor`` seconds more."""
    found = []
    for kind in OTHERS:
        usual, now = one.before.p95(kind), one.during.p95(kind)
        if usual is None or now is None:
            found.append(f"{kind}: too few answers to tell")
        elif now > (most := max(TIMES * usual, usual + floor)):
            found.append(f"{kind}: p95 {1000 * now:.0f} ms; {1000 * most:.0f} are allowed, {1000 * usual:.0f} is usual")
    return found


def figures(one: Round, sent: Mapping[str, object]) -> str:
    """One line for people."""
    parts = [f"{one.during.peak_mb:4.0f} MB", f"{one.during.cpu_seconds:4.1f} s CPU"]
    for kind in (*OTHERS, "free"):
        usual, now = one.before.p95(kind), one.during.p95(kind)
        parts.append(f"{kind} {_ms(usual)} -> {_ms(now)} ms {statuses(one.during.of(kind))}")
    return ", ".join([*parts, f"log {len(one.log)} bytes", f"attackers: {sent}"])


def _lost(samples: Sequence[Sample]) -> list[str]:
    bad = [sample for sample in samples if not (sample.done or (sample.status in REFUSALS and sample.retry))]
    if sum(not sample.status for sample in bad) <= LOST_MOST:
        bad = [sample for sample in bad if sample.status]
    told = Counter(f"{sample.kind}: {_what_came(sample)}" for sample in bad)
    return [f"{number} honest requests of {what}" for what, number in told.items()]


def _what_came(sample: Sample) -> str:
    return sample.trouble or (f"answered {sample.status}" if sample.status else "no answer")


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.0f}"
