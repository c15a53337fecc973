"""Servers that share a PostgreSQL and a bucket start, stop and die, and clients of the Service hardly notice."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import nullcontext

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.clients import Clients, asking, at_work
from tests.e2e.deployment import NAMESPACE, RELEASE, TIERS, Deployment, deploy
from tests.e2e.figures import tell
from tests.e2e.internal import Internal
from tests.e2e.kept import Crowd
from tests.e2e.pictures import CAT
from tests.e2e.processes import cut_off, send, stilled
from tests.e2e.servers import GRACE_SECONDS, SETS, alone, names, servers
from tests.e2e.stores import Stores, stores
from tests.e2e.things import Thing
from tests.running import Answer
from tests.service.test_classify import is_cat
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

PREMIUM = "tierserve-premium"
TAKEN_OVER_SECONDS = 15.0
TOKEN_FILE = "/var/run/secrets/tierserve/token"
AWAY_SECONDS = 3.0
UNREADY_SECONDS = 10.0  # after so long without PostgreSQL a server counts as unready, and then nothing answers at all


@pytest.fixture(scope="module")
def shared(own_cluster: Cluster) -> Iterator[Stores]:
    with stores(own_cluster) as found:
        yield found


@pytest.fixture(scope="module")
def release(own_cluster: Cluster, shared: Stores) -> Iterator[Deployment]:
    found = deploy(own_cluster, *SETS)
    try:
        yield found
    finally:
        found.remove()


@pytest.fixture
def deployment(release: Deployment, shared: Stores) -> Deployment:
    """Two servers that share the stores, no matter what an earlier test has left."""
    wanted = (*shared.sets, "autoscaling.enabled=false", "replicas=2")
    if release.sets[-len(wanted) :] != wanted:
        release.upgrade(*wanted)
        alone(release, servers(release))
    return release


def leader(shared: Stores, pods: Collection[str]) -> str:
    """Wait until one of these servers leads; return its address."""
    return eventually(shared.leading, GRACE_SECONDS, f"one of {[*pods]} leads", lambda found: found in pods)


def asked_anew(deployment: Deployment, tier: str) -> Answer:
    """Ask again while nothing answers: a single server stops at once, and nodes may still send connections to it."""
    return eventually(
        lambda: deployment.post(tier, CAT), 60, f"a server answers for {tier}", lambda _: True, (TimeoutError,)
    )


def nodes(pods: dict[str, Thing]) -> set[str]:
    return {pod["spec"]["nodeName"] for pod in pods.values()}


def test_from_one_server_on_a_volume_to_two_that_share(release: Deployment, shared: Stores) -> None:
    assert is_cat(release.post("free", CAT))
    release.upgrade("replicas=2", *shared.sets)
    pods = servers(release)
    assert nodes(pods) == {"n1", "n2"}
    leader(shared, pods)
    for tier in TIERS:
        assert is_cat(asked_anew(release, tier))
    (claim,) = release.items("persistentvolumeclaims", NAMESPACE)
    assert claim["status"]["phase"] == "Bound", "what was on the volume is still there"


def running(deployment: Deployment, tier: str) -> list[Thing]:
    return [pod for pod in deployment.pods(tier) if pod["status"]["phase"] == "Running"]


def is_one(found: list[Thing]) -> bool:
    return len(found) == 1


def test_what_one_server_leased_out_another_takes_back(own_cluster: Cluster, deployment: Deployment) -> None:
    assert is_cat(deployment.post("premium", CAT))
    (worker,) = eventually(lambda: running(deployment, "premium"), 60, "premium's one worker runs", is_one)
    token = deployment.kubectl("exec", worker["metadata"]["name"], "--", "cat", TOKEN_FILE, namespace=PREMIUM)
    one, other = (Internal(deployment, address) for address in servers(deployment))
    with stilled(own_cluster, worker):
        for lender, taker in ((one, other), (other, one)):
            with lender.channel(token) as channel:
                assert channel.hold() == []
                held = lender.leased("premium", channel)
            with taker.channel(token) as channel:
                assert channel.hold([held]) == []
                assert channel.complete([taker.forged("premium", held)]) == ["accepted"]
            assert deployment.ended(held["id"])["results"][0]["labels"][0]["label"] == "forged"


def test_a_rollout_leaves_no_request_without_an_answer(deployment: Deployment) -> None:
    before = servers(deployment)
    with at_work(Crowd(deployment)) as clients:
        began = time.monotonic()
        deployment.kubectl("rollout", "restart", f"deployment/{RELEASE}")
        deployment.kubectl("rollout", "status", f"deployment/{RELEASE}", "--timeout=150s", timeout=160)
        took = time.monotonic() - began
        after = servers(deployment)
        alone(deployment, after)
        gap, slowest = clients.gap(began), clients.slowest(began)
    told = clients.content()
    assert not names(before) & names(after)
    assert nodes(after) == {"n1", "n2"}
    tell(f"both servers replaced in {took:.1f} s: longest pause {gap:.1f} s, slowest answer {slowest:.1f} s; {told}")


# The codes of the 503 answers that each server may still send.
LAST_WORDS = {"killed": set(), "deleted": set(), "cut off": {"storage_unavailable", "outcome_unknown"}}


@pytest.mark.parametrize("how", LAST_WORDS)
def test_when_the_server_that_leads_is_lost_another_does(
    own_cluster: Cluster, deployment: Deployment, shared: Stores, how: str
) -> None:
    pods = servers(deployment)
    with asking(deployment) as clients:
        lost = leader(shared, pods)
        gone = "" if how == "cut off" else pods[lost]["status"]["containerStatuses"][0]["containerID"]
        began = time.monotonic()
        if how == "killed":
            send(own_cluster, pods[lost], "SIGKILL")
        elif how == "deleted":
            deployment.kubectl("delete", "pod", pods[lost]["metadata"]["name"], "--grace-period=0", "--force")
        with cut_off(own_cluster, pods[lost]) if how == "cut off" else nullcontext():
            eventually(shared.leading, 60, "another one leads", lambda found: found not in ("", lost))
            took = time.monotonic() - began
            deployment.kubectl("delete", "jobs", "--all", namespace=PREMIUM)
            clients.serves("premium", time.monotonic())
        again = servers(deployment, without=gone)
        assert (names(again) == names(pods)) == (how != "deleted")
        gap = clients.gap(began)
    check_refusals(clients, LAST_WORDS[how])
    broken = f"{len(clients.unanswered)} of {len(clients.unanswered) + len(clients.accepted)} requests broken"
    tell(f"the server that led {how}: another did after {took:.1f} s; longest pause {gap:.1f} s, {broken}")
    assert took < TAKEN_OVER_SECONDS


def check_refusals(clients: Clients, codes: set[str]) -> None:
    assert {answer.json["code"] for answer in clients.refused} <= codes
    assert all("Retry-After" in answer.headers for answer in clients.refused)


@pytest.mark.parametrize("how", ["killed", "away"])
def test_while_postgresql_is_gone_nothing_is_promised(
    own_cluster: Cluster, deployment: Deployment, shared: Stores, how: str
) -> None:
    before = servers(deployment)
    with asking(deployment) as clients:
        began = time.monotonic()
        if how == "killed":
            send(own_cluster, shared.pods()[0], "SIGKILL")
        else:
            shared.scale(0)
            time.sleep(AWAY_SECONDS)
            shared.scale(1)
        shared.wait_answers()
        back = time.monotonic()
        for tier in TIERS:
            clients.serves(tier, back)
        took, gap = time.monotonic() - back, clients.gap(began)
    check_refusals(clients, {"storage_unavailable", "outcome_unknown"})
    assert clients.refused
    assert clients.unanswered == [] or back - began > UNREADY_SECONDS
    assert names(servers(deployment)) == names(before)
    refused = f"{len(clients.refused)} of {len(clients.refused) + len(clients.accepted)} requests got 503"
    tell(f"PostgreSQL {how} for {back - began:.1f} s: labels {took:.1f} s later, a pause of {gap:.1f} s, {refused}")


def test_more_and_fewer_servers(deployment: Deployment, shared: Stores) -> None:
    with at_work(Crowd(deployment)) as clients:
        began = time.monotonic()
        deployment.upgrade("replicas=3")
        three = servers(deployment, 3)
        deployment.upgrade("replicas=1")
        one = servers(deployment, 1)
        (left,) = one
        leader(shared, one)
        alone(deployment, one)
        gap = clients.gap(began)
    assert left in three
    tell(f"from two servers to three and to one: longest pause {gap:.1f} s; {clients.content()}")


def test_the_autoscaler_takes_over_and_gives_back_and_the_budget_counts(deployment: Deployment) -> None:
    with at_work(Crowd(deployment)) as clients:
        deployment.upgrade("autoscaling.enabled=true")
        servers(deployment, 2)
        eventually(lambda: scaled(deployment), 60, "the autoscaler wants two", lambda found: found == (2, 2))
        eventually(lambda: allowed(deployment), 60, "the budget counts them", lambda found: found == 1)
    tell(f"the autoscaler made two of one; {clients.content()}")
    deployment.upgrade("autoscaling.enabled=false", "replicas=3")
    servers(deployment, 3)


def scaled(deployment: Deployment) -> tuple[int, int]:
    """The autoscaler's lower limit, and how many servers it wants now."""
    (scaler,) = deployment.items("horizontalpodautoscalers", NAMESPACE)
    return scaler["spec"]["minReplicas"], scaler["status"].get("desiredReplicas", 0)


def allowed(deployment: Deployment) -> int:
    (budget,) = deployment.items("poddisruptionbudgets", NAMESPACE)
    return int(budget["status"].get("disruptionsAllowed", 0))
