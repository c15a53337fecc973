"""Judges what was seen while the server was attacked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.hostile.seen import Sample, Stretch, statuses

MOST_MB = 400.0
LOG_BYTES = 8192
# Of requests to the tier that is not attacked, from an address that no attacker uses.
DONE_SHARE = 0.9
TIMES = 2.0
# Twice a few milliseconds says nothing on a machine that also runs the attackers.
FLOOR_SECONDS = 0.05
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
    if len(one.log) > LOG_BYTES:
        found.append(f"the log grew by {len(one.log)} bytes; {LOG_BYTES} are allowed")
    for kind in OTHERS:
        asked = [sample for sample in one.during.of(kind) if sample.apart]
        if asked and sum(sample.done for sample in asked) < DONE_SHARE * len(asked):
            found.append(f"{kind}: of {len(asked)} requests too few were done: {statuses(asked)}")
    return found


def slow(one: Round) -> list[str]:
    """Which honest requests took longer than they may."""
    found = []
    for kind in OTHERS:
        usual, now = one.before.p95(kind), one.during.p95(kind)
        if usual is None or now is None:
            found.append(f"{kind}: too few answers to tell")
        elif now > (most := longest(usual)):
            found.append(f"{kind}: p95 {1000 * now:.0f} ms; {1000 * most:.0f} are allowed, {1000 * usual:.0f} is usual")
    return found


def longest(usual: float) -> float:
    """How many seconds the p95 may take, if it usually takes so many."""
    return max(TIMES * usual, usual + FLOOR_SECONDS)


def figures(one: Round, sent: Mapping[str, object]) -> str:
    """One line for people."""
    parts = [f"{one.during.peak_mb:4.0f} MB", f"{one.during.cpu_seconds:4.1f} s CPU"]
    for kind in (*OTHERS, "free"):
        usual, now = one.before.p95(kind), one.during.p95(kind)
        parts.append(f"{kind} {_ms(usual)} -> {_ms(now)} ms {statuses(one.during.of(kind))}")
    return ", ".join([*parts, f"log {len(one.log)} bytes", f"attackers: {sent}"])


def _lost(samples: Sequence[Sample]) -> Iterator[str]:
    bad: dict[str, int] = {}
    for sample in samples:
        if sample.done or (sample.status in REFUSALS and sample.retry):
            continue
        what = sample.trouble or (f"answered {sample.status}" if sample.status else "no answer")
        bad[f"{sample.kind}: {what}"] = bad.get(f"{sample.kind}: {what}", 0) + 1
    return (f"{number} honest requests of {what}" for what, number in bad.items())


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.0f}"
