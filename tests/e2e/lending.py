"""Waves of premium's demand against free, which has borrowed everything."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.e2e.clients import ASYNC, LABELS
from tests.e2e.deployment import BROKEN, TIERS, Deployment
from tests.e2e.figures import tell
from tests.e2e.pictures import CAT
from tests.e2e.things import Thing
from tests.e2e.watching import Watch
from tests.e2e.workers import ready
from tests.waiting import eventually

WORKERS = 3  # that fit into the capacity, of all tiers together
# The two nodes share this machine's cores. With such small workers, something is left for all others.
SETS = (
    "pod.resources.requests.cpu=500m",
    "capacity.cpu=1200m",
    *(f"tiers.{tier}.job.cpu=400m" for tier in TIERS),
    *(f"tiers.{tier}.quota.cpu=1200m" for tier in TIERS),
    *(f"tiers.{tier}.waits.idleSeconds=1" for tier in TIERS),
)
ALONE_SECONDS = 10.0  # for so long a new worker is not recalled
PICTURES = 3  # of a wave
SIGNALED_SECONDS = 10.0  # after which a recalled worker gets SIGTERM, if what it was told was of no use


@dataclass(frozen=True, slots=True)
class Wave:
    """What became of one wave: seconds from its first request, and what its caller was told while it waited."""

    job: float
    work: float
    label: float
    reasons: set[str]


def have(deployment: Deployment, **wanted: int) -> dict[str, dict[str, Thing]]:
    """Wait until each of these tiers has so many ready workers; returns them by tier and name."""
    return eventually(
        lambda: {tier: ready(deployment, tier) for tier in wanted},
        90,
        f"the tiers have {wanted} workers",
        lambda found: {tier: len(pods) for tier, pods in found.items()} == wanted,
    )


def borrowed_everything(deployment: Deployment, watch: Watch) -> Thing:
    """Wait until free has all workers, one of which may be recalled; returns the one that goes first."""
    pods = have(deployment, free=WORKERS, premium=0)["free"]

    def old_enough() -> list[str]:
        latest = time.monotonic() - ALONE_SECONDS - 1
        return sorted((name for name in pods if watch.began[name] < latest), key=lambda name: watch.began[name])

    return pods[eventually(old_enough, 20, "a worker may be recalled")[-1]]


def wave(deployment: Deployment, jobs: Watch) -> Wave:
    """Let premium have demand; return when all of it has its labels, each at the first attempt."""
    began = time.monotonic()
    first, *others = [_submitted(deployment) for _ in range(PICTURES)]
    reasons: set[str] = set()

    def look() -> dict[str, Any]:
        found = deployment.prediction(first)
        if found["queue"] is not None:
            reasons.add(found["queue"]["reason"])
        return found

    found = eventually(look, 60, "the first one has its labels", lambda found: found["completed_at"], BROKEN)
    for one in (found, *map(deployment.ended, others)):
        assert (one["status"], one["attempts"]) == ("succeeded", 1), one
        assert one["results"][0]["labels"][0]["label"].startswith(LABELS["cat"])
    later = [at for name, at in jobs.began.items() if name.startswith("tierserve-premium") and at > began]
    return Wave(min(later) - began, _seconds(found, "started_at"), _seconds(found, "completed_at"), reasons)


def told(who: str, waves: Sequence[Wave]) -> float:
    """Tell how long the parts of the waves took; returns the median until the first Job."""
    parts: dict[str, Callable[[Wave], float]] = {
        "its first Job": lambda one: one.job,
        "its first worker at work": lambda one: one.work,
        "its first label": lambda one: one.label,
    }
    middles = {}
    for what, part in parts.items():
        found = [part(one) for one in waves]
        middles[what] = statistics.median(found)
        times = f"median {middles[what]:.2f} s of {len(found)}, from {min(found):.2f} to {max(found):.2f} s"
        tell(f"{who}: premium's demand to {what}: {times}")
    return middles["its first Job"]


def kept(done: Sequence[dict[str, Any]]) -> None:
    """Check that nothing was lost, and that nothing was begun twice."""
    bad = [found for found in done if (found["status"], found["attempts"]) != ("succeeded", 1)]
    assert not bad, f"{len(bad)} of {len(done)}: {bad[:3]}"


def _submitted(deployment: Deployment) -> str:
    """Submit a picture to premium, again and again while no server takes it; returns its id."""
    answer = eventually(
        lambda: deployment.post("premium", CAT, ASYNC), 60, "it is taken", lambda said: said.status == 202, BROKEN
    )
    return str(answer.json["id"])


def _seconds(found: dict[str, Any], key: str) -> float:
    """The time from acceptance to a moment of a prediction."""
    return (datetime.fromisoformat(found[key]) - datetime.fromisoformat(found["created_at"])).total_seconds()
