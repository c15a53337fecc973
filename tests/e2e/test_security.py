"""Who may do what: the server only what it does, a worker only the work of its own Job, and pods nothing at all."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.shell import ClusterError
from tests.e2e.deployment import NAMESPACE, RELEASE, TIERS, Deployment, deploy
from tests.e2e.figures import tell
from tests.e2e.internal import Internal
from tests.e2e.pictures import CAT
from tests.e2e.processes import send, stilled
from tests.e2e.rights import Right, audited, granted, may, right
from tests.e2e.strangers import stranger
from tests.e2e.things import Thing
from tests.service.test_classify import is_cat
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

WORKER = "tierserve-worker"
AUDIENCE = "tierserve"
TOKEN_FILE = "/var/run/secrets/tierserve/token"
SPACES = {tier: f"tierserve-{tier}" for tier in TIERS}
ELSEWHERE = "tierserve-elsewhere"
REFUSED = 401
NO_ACCOUNT = f'serviceaccount "{WORKER}" not found'
PROCESS = "/proc/1/status"
HOST_VOLUME = {"name": "host", "hostPath": {"path": "/"}}


@pytest.fixture(scope="module")
def deployment(own_cluster: Cluster) -> Iterator[Deployment]:
    leases = ("server.lease.seconds=10", "server.lease.heartbeatSeconds=3", "server.lease.reclaimSeconds=1")
    found = deploy(own_cluster, *leases, *(f"tiers.{tier}.waits.idleSeconds=3" for tier in TIERS))
    try:
        yield found
    finally:
        own_cluster.kubectl("delete", "namespace", ELSEWHERE, "--ignore-not-found", timeout=120)
        found.remove()


@pytest.fixture(scope="module")
def used(own_cluster: Cluster, deployment: Deployment) -> set[Right]:
    """The rights that the server used while it did everything that it ever does.

    That is: work, GET /config, workers that fall silent, and Jobs that get no pod.
    """
    since = deployment.server_pod()["metadata"]["creationTimestamp"]
    for tier in TIERS:
        assert is_cat(deployment.post(tier, CAT))
        send(own_cluster, running(deployment, tier), "SIGSTOP")  # silent workers: the server deletes their pods
    assert deployment.get("/config").status == 200
    for tier, space in SPACES.items():
        deployment.idle(tier)
        deployment.kubectl("delete", "serviceaccount", WORKER, namespace=space)
    keys = {tier: deployment.submit(tier, CAT) for tier in TIERS}

    eventually(
        lambda: [deployment.prediction(key)["queue"] for key in keys.values()],
        60,
        f"each reason has {NO_ACCOUNT!r}",
        lambda queues: all(queue and NO_ACCOUNT in queue["reason"] for queue in queues),
    )
    deployment.upgrade()
    for space in SPACES.values():  # new Jobs get pods at once; for the old ones Kubernetes would wait for its back-off
        deployment.kubectl("delete", "jobs", "--all", namespace=space)
    for tier, key in keys.items():
        assert deployment.ended(key)["status"] == "succeeded"
        deployment.idle(tier)
    events = [event for event in audited(own_cluster) if event["requestReceivedTimestamp"] >= since]
    tried = {event["objectRef"]["namespace"] for event in events if "dryRun=All" in event["requestURI"]}
    assert tried == set(SPACES.values()), "a Job of each tier was tried out"
    return {right(event) for event in events}


def running(deployment: Deployment, tier: str) -> Thing:
    """Wait until the API server knows that the tier's worker runs, which may be after its first answer."""

    def runs(pods: list[Thing]) -> bool:
        return bool(pods) and pods[0]["status"]["phase"] == "Running"

    return eventually(lambda: deployment.pods(tier), 60, f"a worker of {tier} runs", runs)[0]


def test_the_server_may_do_exactly_what_it_does(deployment: Deployment, used: set[Right]) -> None:
    grants = granted(deployment)
    assert used - grants == set(), "asked without a right"
    assert grants - used == set(), "rights that nothing needs"
    kinds = sorted({f"{verb} {resource}" for verb, _, resource, _ in grants})
    tell(f"the server's rights, each of them used: {', '.join(kinds)}")


# Each is a verb, an API group and a resource. The namespaces are those of MAY_NOT_IN.
MAY_NOT = [
    *((verb, "", "secrets") for verb in ("get", "list", "watch", "create")),
    *(("create", "", f"pods/{way}") for way in ("exec", "attach", "portforward", "eviction", "ephemeralcontainers")),
    ("get", "", "pods/log"),
    *((verb, "", "pods") for verb in ("create", "deletecollection", "patch", "update")),
    *((verb, "batch", "jobs") for verb in ("patch", "update", "deletecollection")),
    ("create", "batch", "cronjobs"),
    *((verb, "", "resourcequotas") for verb in ("create", "update", "patch", "delete")),
    *((verb, "", "limitranges") for verb in ("create", "update", "patch", "delete")),
    ("create", "", "serviceaccounts/token"),
    ("impersonate", "", "serviceaccounts"),
    *((verb, "rbac.authorization.k8s.io", "roles") for verb in ("create", "update", "bind", "escalate")),
    ("create", "rbac.authorization.k8s.io", "rolebindings"),
    *((verb, "", "configmaps") for verb in ("get", "list", "create", "update")),
]
MAY_NOT_IN = [*SPACES.values(), NAMESPACE, "kube-system", "default"]
ONLY_IN_TIERS = [("create", "batch", "jobs"), ("list", "batch", "jobs"), ("delete", "batch", "jobs")]
ONLY_IN_TIERS += [("delete", "", "pods"), ("get", "", "namespaces")]
ONLY_IN_TIERS += [("list", "", "events"), ("list", "", "resourcequotas"), ("list", "", "limitranges")]
MAY_NOT_AT_ALL = [("list", "", every) for every in ("secrets", "pods", "namespaces", "nodes")]
MAY_NOT_AT_ALL += [("patch", "", "namespaces"), ("create", "rbac.authorization.k8s.io", "clusterrolebindings")]


def test_the_server_reads_no_secret_enters_no_pod_and_touches_no_other_namespace(deployment: Deployment) -> None:
    tiers = [(*right, space) for right in ONLY_IN_TIERS for space in SPACES.values()]
    assert set(may(deployment, tiers).values()) == {True}, "the questions are asked in the right way"
    others = [space for space in MAY_NOT_IN if space not in SPACES.values()]
    forbidden = [(*right, space) for right in MAY_NOT for space in MAY_NOT_IN]
    forbidden += [(*right, space) for right in ONLY_IN_TIERS for space in others]
    forbidden += [(*right, "") for right in MAY_NOT_AT_ALL]
    allowed = [right for right, yes in may(deployment, forbidden).items() if yes]
    assert not allowed
    tell(f"{len(forbidden)} questions whether the server may: never")


@pytest.fixture(scope="module")
def internal(deployment: Deployment) -> Internal:
    return Internal(deployment)


@pytest.fixture(scope="module")
def workers(deployment: Deployment, used: set[Right]) -> dict[str, str]:
    """A running worker pod of each tier. It stays until the end of these tests."""
    deployment.upgrade("tiers.free.limits.queue=77", *(f"tiers.{tier}.waits.idleSeconds=600" for tier in TIERS))
    eventually(
        lambda: deployment.tier("free")["limits"]["queued"], 120, "the new limit is in force", lambda most: most == 77
    )
    for tier in TIERS:
        assert is_cat(deployment.post(tier, CAT))
    return {tier: running(deployment, tier)["metadata"]["name"] for tier in TIERS}


@pytest.fixture(scope="module")
def tokens(deployment: Deployment, workers: dict[str, str]) -> dict[str, str]:
    """The token that each tier's worker shows to the server."""
    return {tier: run_in(deployment, SPACES[tier], pod, "cat", TOKEN_FILE) for tier, pod in workers.items()}


def run_in(deployment: Deployment, space: str, pod: str, *words: str) -> str:
    return deployment.kubectl("exec", pod, "--", *words, namespace=space)


def api_status(cluster: Cluster, path: str, token: str) -> int:
    """The API server's status for a request with this token."""
    context = ssl.create_default_context(cafile=str(cluster.control.authority.certificate))
    connection = http.client.HTTPSConnection(cluster.network.control, 6443, timeout=30, context=context)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_workers_token_is_worth_nothing_at_the_api_server(own_cluster: Cluster, tokens: dict[str, str]) -> None:
    for tier, token in tokens.items():
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        assert claims["aud"] == [AUDIENCE]
        assert claims["sub"] == f"system:serviceaccount:{SPACES[tier]}:{WORKER}"
        for path in ("/api", f"/api/v1/namespaces/{SPACES[tier]}/pods", "/apis/authorization.k8s.io/v1"):
            assert api_status(own_cluster, path, token) == REFUSED


def test_the_servers_own_token_lists_pods_and_no_secrets(own_cluster: Cluster, deployment: Deployment) -> None:
    pod = deployment.server_pod()["metadata"]["name"]
    token = run_in(deployment, NAMESPACE, pod, "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token")
    assert api_status(own_cluster, f"/api/v1/namespaces/{NAMESPACE}/pods", token) == 200
    for space in (*SPACES.values(), NAMESPACE, "kube-system"):
        assert api_status(own_cluster, f"/api/v1/namespaces/{space}/secrets", token) == 403


def lent(deployment: Deployment, space: str, account: str, *more: str) -> str:
    """A token that the API server issues for an account."""
    return deployment.kubectl("create", "token", account, *more, namespace=space).strip()


def bound(deployment: Deployment, space: str, pod: str, *more: str) -> str:
    """A token of the worker's account for somebody else's pod. The pod exists, but no node runs it."""
    spec = {"serviceAccountName": WORKER, "nodeSelector": {"tierserve-test": "none-such"}}
    deployment.kubectl("apply", "-f", "-", namespace=space, stdin=stranger(pod, **spec))
    to = ("--bound-object-kind", "Pod", "--bound-object-name", pod)
    return lent(deployment, space, WORKER, *to, *more)


FOR_US = ("--audience", AUDIENCE)


def test_the_internal_port_takes_no_other_token(
    deployment: Deployment, internal: Internal, workers: dict[str, str], tokens: dict[str, str]
) -> None:
    deployment.kubectl("create", "namespace", ELSEWHERE)
    deployment.kubectl("create", "serviceaccount", WORKER, namespace=ELSEWHERE)
    free = SPACES["free"]
    refused = {
        "none": None,
        "an empty one": "",
        "a forged one": f"{tokens['free'].rpartition('.')[0]}.c2lnbmF0dXJl",
        "of another account of the tier": lent(deployment, free, "default", *FOR_US),
        "of the worker's account, but of no pod": lent(deployment, free, WORKER, *FOR_US),
        "of a pod of the tier, for another audience": bound(deployment, free, "tierserve-free-other-aaaaa"),
        "of a namespace that is no tier": bound(deployment, ELSEWHERE, workers["free"], *FOR_US),
        "of the server itself": lent(deployment, NAMESPACE, RELEASE, *FOR_US),
    }
    for whose, token in refused.items():
        answer = internal.refusal(token)
        assert answer is not None, whose
        assert answer.status == REFUSED, f"{whose}: {answer.body!r}"
        assert answer.json["code"] == "bad_worker_token"
    for token in tokens.values():
        assert internal.refusal(token) is None, "and a worker's own is taken"


def test_a_worker_hands_in_for_its_own_tier_and_job_alone(
    own_cluster: Cluster, deployment: Deployment, internal: Internal, tokens: dict[str, str]
) -> None:
    other = bound(deployment, SPACES["premium"], "tierserve-premium-other-aaaaa", *FOR_US)
    refused = internal.refusal(other)
    assert refused is not None
    assert refused.json["code"] == "unknown_job"
    with ExitStack() as stack:
        for tier in TIERS:
            stack.enter_context(stilled(own_cluster, running(deployment, tier)))
        free, premium = (stack.enter_context(internal.channel(tokens[tier])) for tier in ("free", "premium"))
        assert premium.hold() == []
        held = internal.leased("premium", premium)
        assert free.hold([held]) == [held["id"]]
        free.release([held])
        assert free.complete([internal.forged("premium", held)]) == ["unknown"]
        found = deployment.prediction(held["id"])
        assert (found["status"], found["results"]) == ("leased", [])
        assert premium.complete([internal.forged("premium", held)]) == ["accepted"]
    assert deployment.ended(held["id"])["results"][0]["labels"][0]["label"] == "forged"


def test_pod_security_restricted_is_enforced_in_every_tier(deployment: Deployment) -> None:
    trusting = {"securityContext": {"runAsUser": 0}}
    for space in SPACES.values():
        (found,) = deployment.items("namespaces", None, fields=f"metadata.name={space}")
        for mode in ("enforce", "audit", "warn"):
            assert found["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"
        for spec in (trusting, {"hostNetwork": True}, {"hostPID": True}, {"volumes": [HOST_VOLUME]}):
            with pytest.raises(ClusterError, match='violates PodSecurity "restricted'):
                deployment.kubectl("create", "-f", "-", namespace=space, stdin=stranger("somebody", **spec))
        deployment.kubectl("create", "--dry-run=server", "-f", "-", namespace=space, stdin=stranger("somebody"))


def test_no_pod_has_a_right_on_its_node(deployment: Deployment, workers: dict[str, str]) -> None:
    pods = {SPACES[tier]: pod for tier, pod in workers.items()}
    pods[NAMESPACE] = deployment.server_pod()["metadata"]["name"]
    for space, pod in pods.items():
        status = dict(line.split(":\t", 1) for line in run_in(deployment, space, pod, "cat", PROCESS).splitlines())
        assert status["Uid"].split() == status["Gid"].split() == ["10001"] * 4
        assert {status[name].strip() for name in status if name.startswith("Cap")} == {"0" * 16}
        assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
        run_in(deployment, space, pod, "touch", "/tmp/x")
        for path in ("/x", "/srv/tierserve/x", "/opt/tierserve/x", "/etc/x"):
            with pytest.raises(ClusterError, match="Read-only file system"):
                run_in(deployment, space, pod, "touch", path)


def test_a_worker_holds_no_token_for_the_api_server(deployment: Deployment, workers: dict[str, str]) -> None:
    for tier, pod in workers.items():
        with pytest.raises(ClusterError, match="No such file"):
            run_in(deployment, SPACES[tier], pod, "ls", "/var/run/secrets/kubernetes.io")
        assert run_in(deployment, SPACES[tier], pod, "ls", "/var/run/secrets").split() == ["tierserve"]


def test_no_secret_is_made_in_a_tier(deployment: Deployment) -> None:
    for space in SPACES.values():
        assert deployment.items("secrets", space) == []


def test_the_internal_port_is_on_no_public_service(deployment: Deployment, internal: Internal) -> None:
    services = {item["metadata"]["name"]: item["spec"] for item in deployment.items("services", NAMESPACE)}
    assert {spec["type"] for spec in services.values()} == {"ClusterIP"}
    assert [port["targetPort"] for port in services[RELEASE]["ports"]] == ["http"]
    assert deployment.get("/work/channel").status == 404
    assert deployment.get("/metrics").status == 404
    with pytest.raises(OSError):  # it may be refused, be unreachable or time out
        socket.create_connection((services[RELEASE]["clusterIP"], internal.address[1]), 3).close()
