"""How long a label takes without a worker, and how long the next worker takes to start after one has ended."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.cluster.cluster import Kubernetes
from tests.e2e.deployment import Deployment, deploy
from tests.e2e.figures import tell
from tests.e2e.pictures import CAT

pytestmark = pytest.mark.cluster

ROUNDS = 12


@pytest.fixture(scope="module")
def deployment(cluster: Kubernetes) -> Iterator[Deployment]:
    """One worker at a time, which ends after one prediction."""
    sets = ("tiers.free.quota.pods=1", "tiers.free.job.maxPredictions=1", "tiers.premium.job.maxPredictions=1")
    found = deploy(cluster, *sets)
    try:
        yield found
    finally:
        found.remove()


def told(name: str, seconds: list[float]) -> None:
    tell(f"{name}: median {statistics.median(seconds):.2f} s, from {min(seconds):.2f} to {max(seconds):.2f} s")


@pytest.mark.parametrize("tier", ["free", "premium"])
def test_from_a_post_without_any_worker_to_its_label(deployment: Deployment, tier: str) -> None:
    deployment.post(tier, CAT)
    seconds = []
    for _ in range(5):
        deployment.idle(tier)
        answer = deployment.post(tier, CAT)
        assert answer.status == 200
        seconds.append(answer.json["metrics"]["total_ms"] / 1000)
    told(f"{tier}: accepted to label through a new Job", seconds)


def test_a_freed_slot_is_used_at_once(deployment: Deployment) -> None:
    deployment.idle("free")
    with deployment.watching("free") as pods, deployment.watching("free", "jobs") as jobs:
        keys = [deployment.submit("free", CAT) for _ in range(ROUNDS)]
        assert {deployment.ended(key)["status"] for key in keys} == {"succeeded"}
        deployment.idle("free")
        for watch in (pods, jobs):
            watch.settled(f"{ROUNDS} came and went", lambda found: found == (ROUNDS, ROUNDS))
        # The quota counts pods. So Jobs are not compared: one that is over may still exist when the next one starts.
        assert pods.most == 1
        # One worker at a time: the n-th pod's end makes room for the Job after it.
        began = sorted(jobs.began.values())[1:]
        ended = sorted(pods.ended.values())[:-1]
    told("a pod's end to the next Job", [after - before for before, after in zip(ended, began, strict=True)])
    told("from one Job to the next", [after - before for before, after in pairwise(sorted(jobs.began.values()))])
    assert deployment.items("events", "tierserve-free", fields="reason=FailedCreate") == []
