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
from tests.e2e.processes import send
from tests.running import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

FREE = "tierserve-free"
# One worker of premium, beside the server, where no test hurts it; so two of free have room.
SETS = (
    "tiers.free.waits.idleSeconds=60",
    "tiers.premium.quota.cpu=1",
    r"tiers.premium.job.nodeSelector.kubernetes\.io/hostname=n1",
)
TAKEN_UP_SECONDS = 45.0  # the lease's 30 s, 5 s until it is noticed, and what the next worker needs to be free
OUTAGE_SECONDS = 60.0
UNHEARD = ("--protocol", "tcp", "--dport", "6443", "--jump", "DROP")


@pytest.fixture(scope="module")
def deployment(own_cluster: Cluster) -> Iterator[Deployment]:
    found = deploy(own_cluster, *SETS)
    try:
        yield found
    finally:
        found.remove()


@pytest.fixture
def whole(own_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, which a test may break: it is whole again for the next one."""
    yield own_cluster
    if not own_cluster.nodes["n2"].machine.running():
        own_cluster.start_node("n2")
    if "--dport 6443" in own_cluster.control.machine.run("iptables", "--list-rules"):
        own_cluster.control.machine.run("iptables", "-D", "INPUT", *UNHEARD)
    if not own_cluster.control.machine.processes("kube-apiserver"):
        own_cluster.start_api()
    own_cluster.kubectl("uncordon", "n1", "n2")


def name_of(thing: dict[str, Any]) -> str:
    return str(thing["metadata"]["name"])


def job_of(pod: str) -> str:
    return pod.rpartition("-")[0]


def ready(deployment: Deployment, tier: str) -> dict[str, dict[str, Any]]:
    """The worker pods of a tier that run, by name."""
    return {
        name_of(pod): pod
        for pod in deployment.pods(tier)
        if "deletionTimestamp" not in pod["metadata"]
        and any(status["ready"] for status in pod["status"].get("containerStatuses", ()))
    }


def workers(deployment: Deployment, tier: str, count: int) -> dict[str, dict[str, Any]]:
    """The tier's worker pods, once so many run."""
    found: dict[str, dict[str, Any]] = eventually(
        lambda: len(found := ready(deployment, tier)) >= count and found, 120, f"{count} workers of {tier}"
    )
    return found


def workers_on(deployment: Deployment, *nodes: str) -> list[str]:
    """The pods of free, once there is one on each of these nodes and no other."""

    def there() -> list[str]:
        found = ready(deployment, "free")
        return list(found) if sorted(pod["spec"]["nodeName"] for pod in found.values()) == list(nodes) else []

    found: list[str] = eventually(there, 120, f"workers of free on {nodes}")
    return found


def workers_on_n2(deployment: Deployment, cluster: Cluster, clients: Clients) -> list[str]:
    """Two busy workers of free on the node n2; those that follow may go anywhere."""
    workers(deployment, "premium", 1)
    cluster.kubectl("cordon", "n1")
    deployment.kubectl("delete", "jobs", "--all", namespace=FREE, timeout=120)
    clients.submit_slow(4)
    found = workers_on(deployment, "n2", "n2")
    cluster.kubectl("uncordon", "n1")
    return found


def under_way(deployment: Deployment, keys: list[str]) -> list[str]:
    """The predictions that workers hold, once two do."""

    def held() -> list[str]:
        return [key for key in keys if deployment.prediction(key)["status"] == "leased"]

    found: list[str] = eventually(lambda: len(found := held()) >= 2 and found, 90, "two are under way")
    return found


def taken_up(deployment: Deployment, keys: list[str], since: float) -> list[float]:
    """Seconds until each of these was done, or begun for the second time."""
    waiting, took = set(keys), []
    while waiting:
        for key in list(waiting):
            found = deployment.prediction(key)
            if found["completed_at"] or found["attempts"] > 1:
                waiting.discard(key)
                took.append(time.monotonic() - since)
        assert time.monotonic() < since + 180, f"{len(waiting)} of {len(keys)} were not taken up"
        time.sleep(0.05)
    return took


def attempts(deployment: Deployment, keys: list[str]) -> list[int]:
    return [deployment.ended(key, 180)["attempts"] for key in keys]


def process_of(pod: dict[str, Any]) -> str:
    return str(pod["status"]["containerStatuses"][0]["containerID"])


def server_is_replaced(deployment: Deployment, clients: Clients, before: dict[str, Any]) -> float:
    """Wait for the next server; returns how long nobody was accepted."""
    began = time.monotonic()

    def replaced() -> bool:
        with suppress(StopIteration, KeyError):
            pod = deployment.server_pod()
            return bool(pod["status"]["containerStatuses"][0]["ready"]) and process_of(pod) != process_of(before)
        return False

    eventually(replaced, 120, "the server's pod is ready again")
    return clients.gap(began)


@pytest.mark.parametrize("how", ["deleted", "killed"])
def test_a_lost_server_comes_back_and_its_workers_stay(deployment: Deployment, whole: Cluster, how: str) -> None:
    with asking(deployment) as clients:
        keys = clients.submit_slow(6)
        before = {"premium": set(workers(deployment, "premium", 1)), "free": set(workers(deployment, "free", 2))}
        under_way(deployment, keys)
        server = deployment.server_pod()
        if how == "deleted":
            deployment.kubectl("delete", "pod", name_of(server), "--grace-period=0", "--force")
        else:
            send(whole, server, "SIGKILL")
        gap = server_is_replaced(deployment, clients, server)
        tell(f"server {how}: requests accepted again after {gap:.1f} s")
        for tier in TIERS:
            clients.serves(tier, time.monotonic())
            assert set(ready(deployment, tier)) == before[tier], "workers were adopted, not started anew"
        assert max(attempts(deployment, keys)) <= 2, "once more only where a lease's answer died with the server"


@pytest.mark.parametrize("how", ["deleted", "killed"])
def test_what_lost_workers_held_is_taken_up(deployment: Deployment, whole: Cluster, how: str) -> None:
    with asking(deployment) as clients:
        keys = clients.submit_slow(8)
        lost = workers(deployment, "free", 2)
        held = under_way(deployment, keys)
        began = time.monotonic()
        if how == "deleted":
            deployment.kubectl("delete", "pod", *lost, "--grace-period=0", "--force", namespace=FREE)
        else:
            for pod in lost.values():
                send(whole, pod, "SIGKILL")
        took = max(taken_up(deployment, held, began))
        tell(f"all workers {how}: what was under way was done or taken up within {took:.1f} s")
        assert took < TAKEN_UP_SECONDS
        assert max(attempts(deployment, keys)) <= 2
        assert not set(lost) & set(ready(deployment, "free"))


@pytest.mark.parametrize("how", ["drained", "evicted"])
def test_a_worker_that_must_go_hands_back_its_work(deployment: Deployment, whole: Cluster, how: str) -> None:
    with asking(deployment) as clients:
        gone = set(workers_on_n2(deployment, whole, clients))
        keys = clients.submit_slow(4)
        held = under_way(deployment, keys)
        began = time.monotonic()
        if how == "drained":
            whole.kubectl("drain", "n2", "--ignore-daemonsets", "--delete-emptydir-data", timeout=120)
        else:
            gone = {next(iter(gone))}
            evict(deployment, *gone)
            eventually(lambda: not gone & set(map(name_of, deployment.pods("free"))), 60, "the evicted pod is gone")
        left = time.monotonic() - began
        took = max(taken_up(deployment, held, began))
        tell(f"worker {how}: gone after {left:.1f} s, what it held was done or taken up within {took:.1f} s")
        assert set(attempts(deployment, keys)) == {1}
        whole.kubectl("uncordon", "n2")


def evict(deployment: Deployment, pod: str) -> None:
    review = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": FREE}}
    path = f"/api/v1/namespaces/{FREE}/pods/{pod}/eviction"
    deployment.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(review))


@pytest.mark.parametrize("quota", ["half", "all"])
def test_work_of_a_lost_node_goes_on_elsewhere(deployment: Deployment, whole: Cluster, quota: str) -> None:
    # free has slow ones only: each of its workers holds one all the time
    with asking(deployment, "premium") as clients:
        lost = workers_on_n2(deployment, whole, clients)
        if quota == "half":
            whole.kubectl("cordon", "n2")
            deployment.kubectl("delete", "job", job_of(lost.pop()), namespace=FREE)
        keys = clients.submit_slow(10)
        if quota == "half":
            workers_on(deployment, "n1", "n2")
            whole.kubectl("uncordon", "n2")
        under_way(deployment, keys)
        began = time.monotonic()
        whole.stop_node("n2")
        took = eventually(lambda: begun_again(deployment, keys) and time.monotonic() - began, 180, "work goes on")
        tell(f"node lost with {quota} of the quota: what it held was taken up after {took:.1f} s")
        assert took < TAKEN_UP_SECONDS
        assert not set(lost) & {name_of(pod) for pod in deployment.pods("free")}, "no pod of it holds any quota"
        assert set(attempts(deployment, keys)) == {1, 2}
        whole.start_node("n2")


def begun_again(deployment: Deployment, keys: list[str]) -> bool:
    return any(deployment.prediction(key)["attempts"] > 1 for key in keys)


def test_an_api_server_that_is_away_stops_no_client(deployment: Deployment, whole: Cluster) -> None:
    with asking(deployment) as clients:
        for tier in TIERS:
            workers(deployment, tier, 1)
            clients.serves(tier, time.monotonic())
        whole.control.machine.run("iptables", "-I", "INPUT", *UNHEARD)
        whole.stop_api()  # nothing refuses a connection either: whoever asks waits
        began = time.monotonic()
        reason = eventually(lambda: told(deployment), 60, "each tier says that the cluster does not answer")
        while time.monotonic() < began + OUTAGE_SECONDS:
            asked = time.monotonic()
            answer = deployment.get("/readyz")
            assert answer.status == 200, answer.body
            for tier in TIERS:
                assert deployment.post(tier, QUICK["cat"], ASYNC).status == 202
                clients.serves(tier, asked, 30)
            time.sleep(0.5)
        gap, slowest = clients.gap(began), clients.slowest(began)
        keys = clients.submit_slow(6)
        whole.control.machine.run("iptables", "-D", "INPUT", *UNHEARD)
        whole.start_api()
        back = time.monotonic()
        deployment.kubectl("delete", "jobs", "--all", namespace=FREE, timeout=120)
        assert set(attempts(deployment, keys)) == {1}
        tell(
            f"API server away for {OUTAGE_SECONDS:g} s: accepted all the time (longest pause {gap:.1f} s), the slowest "
            f"answer took {slowest:.1f} s, /readyz 200 with {reason!r}; {time.monotonic() - back:.1f} s after it was "
            f"back new workers had done their work; longest pause then {clients.gap(back):.1f} s"
        )


def told(deployment: Deployment) -> str:
    tiers = deployment.get("/readyz").json["tiers"].values()
    if any(tier["healthy"] or "the API server does not answer" not in tier["reason"] for tier in tiers):
        return ""
    return str(next(iter(tiers))["reason"])


@pytest.mark.parametrize("what", ["job", "namespace"])
def test_deleted_jobs_cost_only_time(deployment: Deployment, what: str) -> None:
    with asking(deployment) as clients:
        keys = clients.submit_slow(6)
        gone = set(workers(deployment, "free", 2))
        under_way(deployment, keys)
        began = time.monotonic()
        if what == "job":
            gone = {next(iter(gone))}
            deployment.kubectl("delete", "job", job_of(*gone), namespace=FREE)
        else:
            deployment.kubectl("delete", "jobs,pods", "--all", namespace=FREE)
        tries = attempts(deployment, keys)
        tell(f"{what} deleted: all {len(keys)} slow ones done after {time.monotonic() - began:.1f} s")
        assert set(tries) == {1}, "what was taken back counts no attempt"
        eventually(lambda: not gone & set(ready(deployment, "free")), 60, "the pods are gone too")
        clients.serves("free", time.monotonic())
