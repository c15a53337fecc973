"""A queue before a quota: there are never more workers than fit, no pod is refused, and callers are told the reason."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.cluster.cluster import Kubernetes
from tests.e2e.deployment import Deployment, deploy
from tests.e2e.figures import tell
from tests.e2e.pictures import CAT, SLOW_TYPE, slow
from tests.e2e.things import Thing
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

SOMEBODY = """
apiVersion: v1
kind: Pod
metadata: {name: somebody}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 10002, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: idle
      image: IMAGE
      imagePullPolicy: IfNotPresent
      command: [python, -c, "import time; time.sleep(3600)"]
      resources: {requests: {cpu: 1200m, memory: 32Mi}, limits: {cpu: 1200m, memory: 32Mi}}
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, readOnlyRootFilesystem: true}
"""


@pytest.fixture(scope="module")
def deployment(cluster: Kubernetes) -> Iterator[Deployment]:
    found = deploy(cluster, "tiers.free.waits.idleSeconds=3", "tiers.premium.waits.idleSeconds=3")
    try:
        yield found
    finally:
        found.remove()


def submit_slow(deployment: Deployment, count: int) -> list[str]:
    keys = []
    for _ in range(count):
        answer = deployment.post("free", slow(), {**SLOW_TYPE, "Prefer": "respond-async"})
        assert answer.status == 202, answer.body
        keys.append(answer.json["id"])
    return keys


def at(found: dict[str, Any], key: str) -> datetime:
    return datetime.fromisoformat(found[key])


def waited(found: dict[str, Any]) -> float:
    """How many seconds ago a prediction was accepted."""
    return (datetime.now(UTC) - at(found, "created_at")).total_seconds()


def workers(deployment: Deployment, count: int, seconds: float = 60) -> list[Thing]:
    """Wait until free has so many worker pods, and return them."""
    return eventually(
        lambda: deployment.pods("free"), seconds, f"{count} workers of free", lambda pods: len(pods) == count
    )


def reason(deployment: Deployment, key: str, part: str) -> str:
    """Wait until the reason of a waiting prediction contains a text, and return the reason."""
    queue = eventually(
        lambda: deployment.prediction(key)["queue"],
        60,
        f"the reason of {key} has {part!r}",
        lambda found: found and part in found["reason"],
    )
    return str(queue["reason"])


def test_twenty_slow_predictions_wait_in_order_for_two_workers(deployment: Deployment) -> None:
    positions: list[int] = []
    reasons: set[str] = set()
    with deployment.watching("free") as watch:
        keys = submit_slow(deployment, 20)

        def look() -> dict[str, Any]:
            found = deployment.prediction(keys[-1])
            if found["queue"] is not None:
                positions.append(found["queue"]["position"])
                reasons.add(found["queue"]["reason"])
            return found

        eventually(look, 300, "the last one's turn comes", lambda found: found["queue"] is None)
        ended = [deployment.ended(key) for key in keys]
        most = watch.most
    assert {found["status"] for found in ended} == {"succeeded"}
    assert most == 2, f"{most} worker pods at once"
    assert positions == sorted(positions, reverse=True), "a waiting caller's position only falls"
    assert positions[0] > positions[-1]
    assert any("quota cpu: 1.8 of 2 used, a worker takes 0.9" in reason for reason in reasons), reasons
    started = [at(found, "started_at") for found in ended]
    assert started == sorted(started), "first come, first served"
    assert deployment.items("events", "tierserve-free", fields="reason=FailedCreate") == []


# The two nodes share this machine's cores. With such small workers of free, a core is left for premium.
ROOMY = ("pod.resources.requests.cpu=500m", "tiers.free.job.cpu=100m", "tiers.free.quota.cpu=200m")
ASKED = 100


def test_premium_goes_on_beside_a_full_free_tier(deployment: Deployment) -> None:
    deployment.idle("free")
    with deployment.changed(*ROOMY):
        deployment.post("premium", CAT)
        before = p95(deployment)
        keys = submit_slow(deployment, 5)
        both = "both workers of free are at work"
        eventually(lambda: deployment.tier("free"), 120, both, lambda tier: tier["predicting"] == 2)
        busy = p95(deployment)
        assert any(deployment.prediction(key)["queue"] for key in keys), "free was full while premium was asked"
        for key in keys:
            deployment.ask("DELETE", f"/v1/predictions/{key}")
        deployment.idle("free")
        quiet = (before + p95(deployment)) / 2
    tell(f"premium's p95 beside two busy free workers {busy:.0f} ms, alone {quiet:.0f} ms ({busy / quiet - 1:+.0%})")


def p95(deployment: Deployment) -> float:
    seconds = []
    for _ in range(ASKED):
        began = time.monotonic()
        assert deployment.post("premium", CAT).status == 200
        seconds.append(time.monotonic() - began)
    return 1000 * statistics.quantiles(seconds, n=20)[-1]


def test_a_raised_quota_acts_within_ten_seconds_and_a_lowered_one_kills_no_worker(deployment: Deployment) -> None:
    deployment.idle("free")
    server = deployment.server_pod()["metadata"]["name"]
    keys = submit_slow(deployment, 40)
    workers(deployment, 2)
    with deployment.changed("tiers.free.quota.cpu=3", "tiers.free.quota.memory=4Gi"):
        began = time.monotonic()
        before = {pod["metadata"]["name"] for pod in workers(deployment, 3, 10)}
        tell(f"a third worker {time.monotonic() - began:.1f} s after helm upgrade returned")
        with deployment.watching("free") as watch:
            deployment.upgrade("tiers.free.quota.cpu=1")
            assert "quota cpu: 2.7 of 1 used" in reason(deployment, keys[-1], "of 1 used")
            assert all(deployment.ended(key)["status"] == "succeeded" for key in keys)
            assert watch.seen <= before, "workers that ran went on, no other started"
    assert deployment.server_pod()["metadata"]["name"] == server
    assert deployment.server_pod()["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_quota_used_up_by_somebody_else_is_told_and_a_freed_one_is_used(deployment: Deployment) -> None:
    deployment.idle("free")
    pod = SOMEBODY.replace("IMAGE", deployment.server_image())
    deployment.kubectl("apply", "-f", "-", namespace="tierserve-free", stdin=pod)
    with deployment.watching("free", "jobs") as watch:
        key = deployment.submit("free", CAT)
        assert reason(deployment, key, "quota").startswith(
            "no worker runs; quota cpu: 1.2 of 2 used, a worker takes 0.9"
        )
        looks = "the leader has looked three times"  # it looks once a second
        eventually(lambda: waited(deployment.prediction(key)), 60, looks, lambda seconds: seconds > 3)
        assert not watch.seen, "nothing waits inside Kubernetes"
        deployment.kubectl("delete", "pod", "somebody", "--wait=false", namespace="tierserve-free")
        assert deployment.ended(key, 30)["status"] == "succeeded"
