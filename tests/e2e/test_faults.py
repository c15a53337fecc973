"""Pods, nodes and the API server fail while clients ask: nothing accepted is lost, and work goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.clients import ASYNC, QUICK, Clients, asking
from tests.e2e.deployment import TIERS, Deployment, deploy
from tests.e2e.figures import tell
from tests.e2e.processes import send
from tests.e2e.things import Thing
from tests.e2e.workers import begun_again, busy, gone, name_of, ready, taken_up, under_way, workers, workers_on
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

FREE = "tierserve-free"
# Premium has one worker, on the server's node, where no test harms it. That leaves room for two workers of free.
SETS = (
    "tiers.free.waits.idleSeconds=60",
    "tiers.premium.quota.cpu=1",
    r"tiers.premium.job.nodeSelector.kubernetes\.io/hostname=n1",
)
TAKEN_UP_SECONDS = 45.0  # a lease's 30 s, 5 s until its end is noticed, and 10 s for a worker to become free
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
    """The cluster, for a test that breaks it. It is repaired for the next test."""
    yield own_cluster
    if not own_cluster.nodes["n2"].machine.running():
        own_cluster.start_node("n2")
    if "--dport 6443" in own_cluster.control.machine.run("iptables", "--list-rules"):
        own_cluster.control.machine.run("iptables", "-D", "INPUT", *UNHEARD)
    if not own_cluster.control.machine.processes("kube-apiserver"):
        own_cluster.start_api()
    own_cluster.kubectl("uncordon", "n1", "n2")


def job_of(pod: str) -> str:
    return pod.rpartition("-")[0]


def workers_on_n2(deployment: Deployment, cluster: Cluster, clients: Clients) -> list[str]:
    """Get two busy workers of free on the node n2. Later workers may be on any node."""
    workers(deployment, "premium", 1)
    cluster.kubectl("cordon", "n1")
    deployment.kubectl("delete", "jobs", "--all", namespace=FREE, timeout=120)
    clients.submit_slow(8)
    found = workers_on(deployment, "n2", "n2")
    cluster.kubectl("uncordon", "n1")
    return found


def attempts(deployment: Deployment, keys: list[str]) -> list[int]:
    return [deployment.ended(key, 180)["attempts"] for key in keys]


def process_of(pod: Thing) -> str:
    """The id of the pod's container if it is ready; empty otherwise."""
    (status, *_) = pod["status"].get("containerStatuses") or [{}]
    return str(status.get("containerID", "")) if status.get("ready") else ""


def server_is_replaced(deployment: Deployment, clients: Clients, before: Thing) -> float:
    """Wait for the next server; returns for how long no request was accepted."""
    began = time.monotonic()

    def replaced(pods: list[Thing]) -> bool:
        return any(process_of(pod) not in ("", process_of(before)) for pod in pods)

    eventually(deployment.server_pods, 120, "the server's pod is ready again", replaced)
    return clients.gap(began)


@pytest.mark.parametrize("how", ["deleted", "killed"])
def test_a_lost_server_comes_back_and_its_workers_stay(deployment: Deployment, whole: Cluster, how: str) -> None:
    with asking(deployment) as clients:
        premium = workers(deployment, "premium", 1)
        free, work = busy(deployment, clients)
        before = {"premium": set(premium), "free": set(free)}
        server = deployment.server_pod()
        if how == "deleted":
            deployment.kubectl("delete", "pod", name_of(server), "--grace-period=0", "--force")
        else:
            send(whole, server, "SIGKILL")  # the kubelet restarts the container in the same pod
        gap = server_is_replaced(deployment, clients, server)
        tell(f"server {how}: requests accepted again after {gap:.1f} s")
        for tier in TIERS:
            clients.serves(tier, time.monotonic())
            assert set(ready(deployment, tier)) == before[tier], "workers were adopted, not started anew"
        assert max(attempts(deployment, work.all)) <= 2, "once more only where a lease's answer died with the server"


@pytest.mark.parametrize("how", ["deleted", "killed"])
def test_what_lost_workers_held_is_taken_up(deployment: Deployment, whole: Cluster, how: str) -> None:
    with asking(deployment) as clients:
        lost, work = busy(deployment, clients)
        began = time.monotonic()
        if how == "deleted":
            deployment.kubectl("delete", "pod", *lost, "--grace-period=0", "--force", namespace=FREE)
        else:
            for pod in lost.values():
                send(whole, pod, "SIGKILL")
        took = taken_up(deployment, work.held, began)
        tell(f"all workers {how}: what was under way was done or taken up within {took:.1f} s")
        assert took < TAKEN_UP_SECONDS
        assert max(attempts(deployment, work.all)) <= 2
        gone(deployment, set(lost))


@pytest.mark.parametrize("how", ["drained", "evicted"])
def test_a_worker_that_must_go_hands_back_its_work(deployment: Deployment, whole: Cluster, how: str) -> None:
    with asking(deployment) as clients:
        leaving = set(workers_on_n2(deployment, whole, clients))
        work = under_way(deployment, clients)
        began = time.monotonic()
        if how == "drained":
            whole.kubectl("drain", "n2", "--ignore-daemonsets", "--delete-emptydir-data", timeout=120)
        else:
            leaving = {leaving.pop()}
            evict(deployment, *leaving)
        gone(deployment, leaving)
        left = time.monotonic() - began
        took = taken_up(deployment, work.held, began)
        tell(f"worker {how}: gone after {left:.1f} s, what it held was done or taken up within {took:.1f} s")
        assert set(attempts(deployment, work.all)) == {1}
        whole.kubectl("uncordon", "n2")


def evict(deployment: Deployment, pod: str) -> None:
    review = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": FREE}}
    path = f"/api/v1/namespaces/{FREE}/pods/{pod}/eviction"
    deployment.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(review))


@pytest.mark.parametrize("quota", ["half", "all"])
def test_work_of_a_lost_node_goes_on_elsewhere(deployment: Deployment, whole: Cluster, quota: str) -> None:
    # Only premium has clients, so that each worker of free always holds a slow prediction.
    with asking(deployment, "premium") as clients:
        lost = workers_on_n2(deployment, whole, clients)
        if quota == "half":
            whole.kubectl("cordon", "n2")
            deployment.kubectl("delete", "job", job_of(lost.pop()), namespace=FREE)
            clients.submit_slow(10)  # these start a worker on n1
            workers_on(deployment, "n1", "n2")
            whole.kubectl("uncordon", "n2")
        keys = under_way(deployment, clients).all
        keys += clients.submit_slow(10)  # so that the worker on n2 is still busy when the node has stopped
        began = time.monotonic()
        whole.stop_node("n2")
        took = begun_again(deployment, keys) - began
        tell(f"node lost with {quota} of the quota: what it held was taken up after {took:.1f} s")
        assert took < TAKEN_UP_SECONDS
        gone(deployment, set(lost))  # the leader deletes them by force, because they would use quota
        assert set(attempts(deployment, keys)) == {1, 2}
        whole.start_node("n2")


def test_an_api_server_that_is_away_stops_no_client(deployment: Deployment, whole: Cluster) -> None:
    with asking(deployment) as clients:
        for tier in TIERS:
            workers(deployment, tier, 1)
            clients.serves(tier, time.monotonic())
        whole.control.machine.run("iptables", "-I", "INPUT", *UNHEARD)
        whole.stop_api()  # because of the rule nothing refuses a connection either, so every call waits
        began = time.monotonic()
        reason = silence(deployment)
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


def silence(deployment: Deployment) -> str:
    """Wait until each tier says that the cluster does not answer, and return the reason."""
    tiers = eventually(
        lambda: [(tier["healthy"], tier["reason"]) for tier in deployment.get("/readyz").json["tiers"].values()],
        60,
        "each tier says that the API server does not answer",
        lambda found: all(not healthy and "the API server does not answer" in why for healthy, why in found),
    )
    return str(tiers[0][1])


@pytest.mark.parametrize("what", ["job", "namespace"])
def test_deleted_jobs_cost_only_time(deployment: Deployment, what: str) -> None:
    with asking(deployment) as clients:
        found, work = busy(deployment, clients)
        deleted = set(found)
        began = time.monotonic()
        if what == "job":
            deleted = {deleted.pop()}
            deployment.kubectl("delete", "job", job_of(*deleted), namespace=FREE)
        else:
            deployment.kubectl("delete", "jobs,pods", "--all", namespace=FREE)
        tries = attempts(deployment, work.all)
        tell(f"{what} deleted: all {len(work.all)} slow ones done after {time.monotonic() - began:.1f} s")
        assert set(tries) == {1}, "what was taken back counts no attempt"
        gone(deployment, deleted)
        clients.serves("free", time.monotonic())
