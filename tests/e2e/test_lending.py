"""Tiers lend each other quota: free borrows what premium does not use, and gives it back within seconds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.cluster.cluster import Kubernetes
from tests.e2e.clients import ASYNC
from tests.e2e.deployment import TIERS, Deployment, deploy
from tests.e2e.figures import tell
from tests.e2e.flood import Flood
from tests.e2e.lending import SETS, SIGNALED_SECONDS, WORKERS, borrowed_everything, have, kept, told, wave
from tests.e2e.pictures import CAT, SLOW_TYPE, slow
from tests.service.test_classify import is_cat
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

WAVES = 10
MEASURED = 40  # predictions for each worker


@pytest.fixture(scope="module")
def deployment(cluster: Kubernetes) -> Iterator[Deployment]:
    found = deploy(cluster, *SETS)
    try:
        yield found
    finally:
        found.remove()


def lending(deployment: Deployment, tier: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = deployment.tier(tier)["lending"]
    return found


def test_what_free_borrows_comes_back_to_premium_in_seconds_and_nothing_is_lost(deployment: Deployment) -> None:
    for tier in TIERS:
        assert is_cat(deployment.post(tier, CAT))
        deployment.idle(tier)
    with deployment.watching("") as pods, deployment.watching("", "jobs") as jobs:
        with Flood(deployment, "free") as flood:
            waves = []
            for _ in range(WAVES):
                borrowed_everything(deployment, pods)
                waves.append(wave(deployment, jobs))
            borrowed_everything(deployment, pods)
            stand = {tier: lending(deployment, tier) for tier in TIERS}
        kept(flood.rest())
        most = pods.most
    assert most == WORKERS, f"{most} worker pods at once"
    assert stand == {
        "free": {"share": 0.5, "used": 1.0, "borrowed": 0.5, "lent": 0.0, "recalled": 0},
        "premium": {"share": 0.5, "used": 0.0, "borrowed": 0.0, "lent": 0.5, "recalled": 0},
    }
    reasons = set[str]().union(*(one.reasons for one in waves))
    assert any("workers of free hand back what was lent" in reason for reason in reasons), reasons
    for tier in TIERS:
        assert deployment.items("events", f"tierserve-{tier}", fields="reason=FailedCreate") == []
    assert told("free had borrowed everything", waves) < SIGNALED_SECONDS


def lends(deployment: Deployment, *, wanted: bool) -> None:
    """Wait until the tiers lend each other quota, or do not."""
    what = f"lending is {wanted}"
    eventually(lambda: lending(deployment, "free"), 90, what, lambda found: (found is not None) == wanted)


def rate(deployment: Deployment, workers: int) -> float:
    """How many predictions free finishes in a second with so many workers."""
    deployment.idle("free")
    many = workers * MEASURED
    keys = [deployment.post("free", slow(1), {**SLOW_TYPE, **ASYNC}).json["id"] for _ in range(many)]
    have(deployment, free=workers)
    early = len([key for key in keys if deployment.prediction(key)["completed_at"]]) + workers
    ended = sorted(datetime.fromisoformat(deployment.ended(key)["completed_at"]) for key in keys)
    measured = ended[early:-workers]
    assert len(measured) > many / 3, "many ended while all workers were there"
    return (len(measured) - 1) / (measured[-1] - measured[0]).total_seconds()


def test_with_premium_idle_free_has_what_the_capacity_allows(deployment: Deployment) -> None:
    deployment.idle("premium")
    lent = rate(deployment, WORKERS)
    with deployment.changed("capacity=null"):
        lends(deployment, wanted=False)
        whole = rate(deployment, WORKERS)
        with deployment.changed("tiers.free.quota.cpu=600m"):
            eventually(lambda: deployment.tier("free"), 30, "free has its part", lambda found: found["room"] == 1)
            part = rate(deployment, 1)
    lends(deployment, wanted=True)
    all_of_it = f"{lent / whole:.2f} of what it has with a quota of all of the capacity"
    tell(f"free with premium idle: {lent:.2f}/s, {all_of_it}, {lent / part:.2f} times what it has with one of half")
    assert lent > 0.7 * whole, "the rest is what other programs take"


def test_helm_upgrade_changes_share_and_capacity_live(deployment: Deployment) -> None:
    server = deployment.server_pod()["metadata"]["name"]
    with Flood(deployment, "free") as flood:
        have(deployment, free=WORKERS)
        with Flood(deployment, "premium") as other:
            have(deployment, free=2, premium=1)
            upgraded(deployment)
    kept(flood.rest() + other.rest())
    assert deployment.server_pod()["metadata"]["name"] == server


def upgraded(deployment: Deployment) -> None:
    """Change the shares, then also the capacity, while both tiers have more to do than they can."""
    with deployment.changed("tiers.premium.share=3"):
        have(deployment, free=1, premium=2)
        found = lending(deployment, "premium")
        assert found is not None
        assert found["share"] == 0.75
        with deployment.changed("capacity.cpu=1600m", *(f"tiers.{tier}.quota.cpu=1600m" for tier in TIERS)):
            have(deployment, free=1, premium=3)
        have(deployment, free=1, premium=2)  # what is more than the capacity is recalled
