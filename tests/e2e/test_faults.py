"""What a cluster does to pods, nodes and itself while clients ask: nothing accepted is lost, and work goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.clients import ASYNC, QUICK, Clients, asking
from tests.e2e.deployment import TIERS, Deployment, deploy
from tests.e2e.figures import tell
from tests.running import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

FREE = "tierserve-free"
TAKEN_UP_SECONDS = 45.0  # the lease's 30 s, 5 s until it is noticed, and what the next worker needs
OUTAGE_SECONDS = 60.0


@pytest.fixture(scope="module")
def deployment(own_cluster: Cluster) -> Iterator[Deployment]:
    found = deploy(own_cluster, "tiers.free.waits.idleSeconds=60", "tiers.premium.waits.idleSeconds=60")
    try:
        yield found
    finally:
        found.remove()


@pytest.fixture(autouse=True)
def whole(own_cluster: Cluster, deployment: Deployment) -> Iterator[None]:
    """Each test begins without workers, and leaves the cluster as it was."""
    dismiss(deployment)
    yield
    if not own_cluster.nodes["n2"].machine.running():
        own_cluster.start_node("n2")
    if not own_cluster.control.machine.processes("kube-apiserver"):
        own_cluster.start_api()
    own_cluster.kubectl("uncordon", "n1", "n2")


def dismiss(deployment: Deployment) -> None:
    for tier in TIERS:
        deployment.kubectl("delete", "jobs", "--all", namespace=f"tierserve-{tier}", timeout=120)
        deployment.idle(tier)


def name_of(thing: dict[str, Any]) -> str:
    return str(thing["metadata"]["name"])


def ready(deployment: Deployment, tier: str) -> dict[str, dict[str, Any]]:
    """The worker pods of a tier that run, by name."""
    return {
        name_of(pod): pod
        for pod in deployment.pods(tier)
        if "deletionTimestamp" not in pod["metadata"]
        and any(status["ready"] for status in pod["status"].get("containerStatuses", ()))
    }


def workers(deployment: Deployment, tier: str, count: int, seconds: float = 90.0) -> dict[str, dict[str, Any]]:
    """The tier's worker pods, once so many run."""
    found: dict[str, dict[str, Any]] = eventually(
        lambda: len(found := ready(deployment, tier)) >= count and found, seconds, f"{count} workers of {tier}"
    )
    return found


def under_way(deployment: Deployment, keys: list[str], count: int) -> list[str]:
    """The predictions that workers hold, once there are so many."""

    def held() -> list[str]:
        return [key for key in keys if deployment.prediction(key)["status"] == "leased"]

    found: list[str] = eventually(lambda: len(found := held()) >= count and found, 90, f"{count} are under way")
    return found


def kill_process(cluster: Cluster, pod: dict[str, Any]) -> None:
    """End the first process of a pod's container at once, as the kernel does when memory is short."""
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    machine = cluster.nodes[pod["spec"]["nodeName"]].machine
    machine.run("ctr", "-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", container)


def restarts(pod: dict[str, Any]) -> int:
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def server_is_replaced(deployment: Deployment, clients: Clients, before: dict[str, Any]) -> float:
    """Wait for the next server's process; returns how long nobody was accepted, from now on."""
    began = time.monotonic()

    def replaced() -> bool:
        with suppress(StopIteration, KeyError):
            pod = deployment.server_pod()
            status = pod["status"]["containerStatuses"][0]
            return bool(status["ready"]) and (name_of(pod), restarts(pod)) != (name_of(before), restarts(before))
        return False

    eventually(replaced, 120, "the server's pod is ready again")
    return clients.gap(began)


def attempts(deployment: Deployment, keys: list[str]) -> list[int]:
    return [deployment.ended(key)["attempts"] for key in keys]


@pytest.mark.parametrize("how", ["deleted", "killed"])
def test_a_lost_server_comes_back_and_its_workers_stay(deployment: Deployment, own_cluster: Cluster, how: str) -> None:
    with asking(deployment) as clients:
        keys = clients.submit_slow(6)
        before = {tier: set(workers(deployment, tier, 1)) for tier in TIERS}
        under_way(deployment, keys, 1)
        server = deployment.server_pod()
        if how == "deleted":
            deployment.kubectl("delete", "pod", name_of(server), "--grace-period=0", "--force")
        else:
            kill_process(own_cluster, server)
        gap = server_is_replaced(deployment, clients, server)
        tell(f"server {how}: requests accepted again after {gap:.1f} s")
        for tier in TIERS:
            clients.serves(tier, time.monotonic())
            assert before[tier] <= set(ready(deployment, tier)), "workers were adopted, not started anew"
        assert attempts(deployment, keys) == [1] * len(keys)


@pytest.mark.parametrize("how", ["deleted", "killed"])
def test_what_a_lost_worker_held_is_taken_up(deployment: Deployment, own_cluster: Cluster, how: str) -> None:
    with asking(deployment) as clients:
        keys = clients.submit_slow(8)
        victim = next(iter(workers(deployment, "free", 2).values()))
        held = under_way(deployment, keys, 2)
        began = time.monotonic()
        if how == "deleted":
            deployment.kubectl("delete", "pod", name_of(victim), "--grace-period=0", "--force", namespace=FREE)
        else:
            kill_process(own_cluster, victim)
        tries = attempts(deployment, held)
        took = time.monotonic() - began
        tell(f"worker {how}: what it held had its labels after {took:.1f} s (attempts: {tries})")
        assert took < TAKEN_UP_SECONDS
        assert max(tries) <= 2
        workers(deployment, "free", 2)
        assert name_of(victim) not in ready(deployment, "free")


@pytest.mark.parametrize("how", ["drained", "evicted"])
def test_a_worker_that_must_go_hands_back_its_work(deployment: Deployment, own_cluster: Cluster, how: str) -> None:
    own_cluster.kubectl("cordon", "n1")
    with asking(deployment) as clients:
        keys = clients.submit_slow(12)
        gone = workers(deployment, "free", 2)
        assert {pod["spec"]["nodeName"] for pod in gone.values()} == {"n2"}
        own_cluster.kubectl("uncordon", "n1")
        held = under_way(deployment, keys, 2)
        began = time.monotonic()
        if how == "drained":
            own_cluster.kubectl("drain", "n2", "--ignore-daemonsets", "--delete-emptydir-data", timeout=120)
        else:
            gone = dict(list(gone.items())[:1])
            for name in gone:
                evict(deployment, name)
            eventually(lambda: not set(gone) & set(ready(deployment, "free")), 60, "the evicted pod is gone")
        left = time.monotonic() - began
        tries = attempts(deployment, held)
        tell(f"{how}: gone after {left:.1f} s, what was held had its labels after {time.monotonic() - began:.1f} s")
        assert set(attempts(deployment, keys)) == {1}, tries
        assert not set(gone) & set(ready(deployment, "free"))


def evict(deployment: Deployment, pod: str) -> None:
    review = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": FREE}}
    path = f"/api/v1/namespaces/{FREE}/pods/{pod}/eviction"
    deployment.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(review))


def test_work_of_a_lost_node_goes_on_elsewhere(deployment: Deployment, own_cluster: Cluster) -> None:
    own_cluster.kubectl("cordon", "n1")
    with asking(deployment) as clients:
        first = clients.submit_slow(2)
        lost = workers(deployment, "free", 1)
        held = under_way(deployment, first, 1)
        own_cluster.kubectl("uncordon", "n1")
        own_cluster.kubectl("cordon", "n2")
        keys = clients.submit_slow(10)
        workers(deployment, "free", 2)
        own_cluster.kubectl("uncordon", "n2")
        held = under_way(deployment, keys, 2)
        own_cluster.stop_node("n2")
        began = time.monotonic()
        tries = attempts(deployment, held)
        took = time.monotonic() - began
        tell(f"node lost: what was under way had its labels after {took:.1f} s (attempts: {tries})")
        assert took < TAKEN_UP_SECONDS
        assert set(attempts(deployment, keys)) <= {1, 2}
        own_cluster.start_node("n2")
        eventually(lambda: not set(lost) & set(ready(deployment, "free")), 120, "the lost pods are gone")


def test_an_api_server_that_is_away_stops_no_client(deployment: Deployment, own_cluster: Cluster) -> None:
    deployment.submit("free", QUICK["cat"])
    workers(deployment, "free", 1)
    with asking(deployment) as clients:
        for tier in TIERS:
            workers(deployment, tier, 1)
            clients.serves(tier, time.monotonic())
        own_cluster.stop_api()
        began = time.monotonic()
        reason = eventually(lambda: told(deployment), 30, "each tier says that the cluster does not answer")
        while time.monotonic() < began + OUTAGE_SECONDS:
            asked = time.monotonic()
            answer = deployment.get("/readyz")
            assert answer.status == 200, answer.body
            for tier in TIERS:
                assert deployment.post(tier, QUICK["cat"], ASYNC).status == 202
                clients.serves(tier, asked, 30)
            time.sleep(1)
        gap = clients.gap(began)
        keys = clients.submit_slow(12)
        own_cluster.start_api()
        back = time.monotonic()
        workers(deployment, "free", 2)
        tell(
            f"API server away for {OUTAGE_SECONDS:g} s: accepted all the time (longest pause {gap:.1f} s), "
            f"/readyz 200 with {reason!r}; a new worker {time.monotonic() - back:.1f} s after it was back"
        )
        assert attempts(deployment, keys)


def told(deployment: Deployment) -> str:
    tiers = deployment.get("/readyz").json["tiers"].values()
    if any(tier["healthy"] or "the API server does not answer" not in tier["reason"] for tier in tiers):
        return ""
    return str(next(iter(tiers))["reason"])


@pytest.mark.parametrize("what", ["job", "namespace"])
def test_deleted_jobs_cost_only_time(deployment: Deployment, what: str) -> None:
    with asking(deployment) as clients:
        keys = clients.submit_slow(8)
        gone = set(workers(deployment, "free", 2))
        under_way(deployment, keys, 2)
        began = time.monotonic()
        if what == "job":
            deployment.kubectl("delete", "job", name_of(deployment.jobs("free")[0]), namespace=FREE)
        else:
            deployment.kubectl("delete", "jobs,pods", "--all", namespace=FREE)
        tries = attempts(deployment, keys)
        tell(f"{what} deleted: all {len(keys)} slow ones done after {time.monotonic() - began:.1f} s")
        assert set(tries) == {1}
        assert not gone <= set(ready(deployment, "free"))
