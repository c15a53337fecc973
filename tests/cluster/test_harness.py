"""The test cluster itself: it behaves like Kubernetes, and it leaves no trace when it is removed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.claims import claims, number_of
from tests.cluster.cluster import Cluster, attach, down
from tests.cluster.shell import ROOT, ClusterError
from tests.cluster.testing import own_cluster
from tests.cluster.traces import daemons, host_settings, pod_processes, traces
from tests.running import alive
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

GRACE_SECONDS = 15
BUSYBOX = {"name": "main", "image": "localhost/busybox:1", "imagePullPolicy": "IfNotPresent"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with own_cluster(ROOT / ".tierserve" / "harness", GRACE_SECONDS) as found:
        yield found


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.name.replace("_", "-")[:60].strip("-")
    cluster.kubectl("create", "namespace", name)
    takes_pods(cluster, name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def takes_pods(cluster: Cluster, namespace: str) -> None:
    """Return when the namespace has the account that pods need."""
    accounts = ("get", "serviceaccounts", "-n", namespace)
    eventually(lambda: cluster.kubectl(*accounts), 60, "a pod can be made", lambda found: "default" in found)


def job(name: str, script: str, *, cpu: str = "100m", **spec: Any) -> dict[str, Any]:
    given = {"cpu": cpu, "memory": "16Mi"}
    resources = {"requests": given, "limits": given}
    container = {**BUSYBOX, "command": ["sh", "-c", script], "resources": resources}
    template = {"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": template, **spec},
    }


def pod(name: str, node: str, command: str, **more: Any) -> dict[str, Any]:
    container = {**BUSYBOX, "command": ["sh", "-c", command], **more.pop("container", {})}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container], **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def apply(cluster: Cluster, namespace: str, *documents: dict[str, Any]) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": documents}
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(items))


def wait(cluster: Cluster, namespace: str, what: str, condition: str) -> None:
    try:
        cluster.kubectl("wait", "-n", namespace, what, f"--for={condition}", "--timeout=100s", timeout=110)
    except ClusterError as error:
        error.add_note(cluster.kubectl("describe", "-n", namespace, what))
        raise


def test_two_nodes_with_two_cpus_are_ready(cluster: Cluster) -> None:
    nodes = json.loads(cluster.kubectl("get", "nodes", "--output=json"))["items"]
    assert {node["metadata"]["name"]: node["status"]["allocatable"]["cpu"] for node in nodes} == {"n1": "2", "n2": "2"}
    wait(cluster, "default", "nodes/n1", "condition=Ready")
    wait(cluster, "default", "nodes/n2", "condition=Ready")


def test_a_job_runs_to_completion_and_keeps_its_output(cluster: Cluster, namespace: str) -> None:
    apply(cluster, namespace, job("hello", "echo hello from $(hostname)"))
    wait(cluster, namespace, "job/hello", "condition=complete")
    assert cluster.kubectl("logs", "-n", namespace, "job/hello").startswith("hello from hello-")


def test_a_pod_finds_services_by_name(cluster: Cluster, namespace: str) -> None:
    names = "nslookup kubernetes.default.svc.cluster.local && grep -q 'search .*svc.cluster.local' /etc/resolv.conf"
    apply(cluster, namespace, job("names", f"{names} && ! nslookup example.com"))
    wait(cluster, namespace, "job/names", "condition=complete")
    assert cluster.network.api_service in cluster.kubectl("logs", "-n", namespace, "job/names")


def test_a_quota_refuses_the_third_pod_with_an_event(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "quota", "two", "-n", namespace, "--hard=requests.cpu=2")
    apply(cluster, namespace, job("three", "sleep 60", cpu="900m", parallelism=3, completions=3))

    def refusals() -> list[str]:
        found = json.loads(cluster.kubectl("get", "events", "-n", namespace, "--output=json"))["items"]
        refused = [event for event in found if event["reason"] == "FailedCreate"]
        return [event["message"] for event in refused if event["involvedObject"]["name"] == "three"]

    messages = eventually(refusals, 60, "a pod is refused")
    assert "exceeded quota: two, requested: requests.cpu=900m, used: requests.cpu=1800m" in messages[0]
    pods = ("get", "pods", "-n", namespace, "--output=name")
    eventually(lambda: cluster.kubectl(*pods).split(), 60, "two pods are there", lambda found: len(found) == 2)


def test_a_token_for_an_audience_is_reviewed(cluster: Cluster) -> None:
    token = cluster.kubectl("create", "token", "default", "--audience=tierserve").strip()
    spec = {"token": token, "audiences": ["tierserve"]}
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    told = json.loads(cluster.kubectl("create", "-f", "-", "--output=json", stdin=json.dumps(review)))["status"]
    assert (told["authenticated"], told["user"]["username"]) == (True, "system:serviceaccount:default:default")


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


def test_pods_are_reached_across_nodes_and_from_the_host(cluster: Cluster, namespace: str) -> None:
    folder = cluster.node_directory("n1", "pages")
    (folder / "index.html").write_text("found\n")
    volumes = [{"name": "pages", "hostPath": {"path": str(folder)}}]
    mounts = {"volumeMounts": [{"name": "pages", "mountPath": "/pages"}], "securityContext": {"runAsUser": 10001}}
    serve = "touch /pages/written && exec httpd -f -p 8080 -h /pages"
    apply(cluster, namespace, pod("web", "n1", serve, volumes=volumes, container=mounts))
    service = {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
    apply(cluster, namespace, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": service})
    wait(cluster, namespace, "pod/web", "condition=Ready")
    spec = json.loads(cluster.kubectl("get", "service", "web", "-n", namespace, "--output=json"))["spec"]
    ask = f"wget -qO- http://{spec['clusterIP']}"
    apply(cluster, namespace, pod("client", "n2", f"until {ask}; do sleep 0.2; done", restartPolicy="Never"))
    wait(cluster, namespace, "pod/client", "jsonpath={.status.phase}=Succeeded")
    assert "found" in cluster.kubectl("logs", "-n", namespace, "client")
    for address in (spec["clusterIP"], f"{cluster.network.address('n2')}:{spec['ports'][0]['nodePort']}"):
        page = eventually(lambda: read(f"http://{address}"), 60, f"{address} answers", bool, (OSError,))  # noqa: B023
        assert page == b"found\n"
    assert (folder / "written").stat().st_uid == 10001


def test_a_claim_without_a_class_gets_a_volume_that_anybody_may_write_in(cluster: Cluster, namespace: str) -> None:
    """This holds under Pod Security "restricted". The volume is on its first pod's node, and goes with the claim."""
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "state"}, "spec": size}
    found = [{"name": "state", "persistentVolumeClaim": {"claimName": "state"}}]
    user = {"runAsUser": 10001, "runAsGroup": 10001, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    rights = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    mounted = {"securityContext": rights, "volumeMounts": [{"name": "state", "mountPath": "/state"}]}

    def once(name: str, command: str) -> dict[str, Any]:
        document = pod(name, "", command, container=mounted, volumes=found, securityContext=user, restartPolicy="Never")
        del document["spec"]["nodeName"]
        return document

    apply(cluster, namespace, claim, once("first", "mkdir /state/data && echo kept >/state/data/file"))
    wait(cluster, namespace, "pod/first", "jsonpath={.status.phase}=Succeeded")
    apply(cluster, namespace, once("second", "cat /state/data/file"))
    wait(cluster, namespace, "pod/second", "jsonpath={.status.phase}=Succeeded")
    assert cluster.kubectl("logs", "-n", namespace, "second") == "kept\n"
    volume = json.loads(cluster.kubectl("get", "pvc", "state", "-n", namespace, "-o", "json"))["spec"]["volumeName"]
    folders = [path for node in cluster.nodes.values() for path in node.volumes.glob(f"{volume}*")]
    assert [(folder / "data" / "file").read_text() for folder in folders] == ["kept\n"]
    cluster.kubectl("delete", "pod", "first", "second", "-n", namespace)
    cluster.kubectl("delete", "pvc", "state", "-n", namespace)
    wait(cluster, namespace, f"pv/{volume}", "delete")
    assert not folders[0].exists()


def test_draining_a_node_evicts_its_pods(cluster: Cluster, namespace: str) -> None:
    apply(cluster, namespace, pod("goes", "n2", "sleep 600"))
    wait(cluster, namespace, "pod/goes", "condition=Ready")
    try:
        cluster.kubectl("drain", "n2", "--force", "--ignore-daemonsets", "--timeout=50s")
        assert "goes" not in cluster.kubectl("get", "pods", "-n", namespace, "--output=name")
    finally:
        cluster.kubectl("uncordon", "n2")


def test_a_lost_node_is_noticed_and_comes_back(cluster: Cluster, namespace: str) -> None:
    apply(cluster, namespace, pod("there", "n2", "sleep 600"))
    wait(cluster, namespace, "pod/there", "condition=Ready")
    node = cluster.nodes["n2"]
    assert pod_processes(node)
    cluster.stop_node("n2")
    try:
        assert (node.machine.processes(), pod_processes(node)) == ([], [])
        wait(cluster, "default", "node/n2", "condition=Ready=Unknown")
    finally:
        cluster.start_node("n2")
    wait(cluster, namespace, "pod/there", "jsonpath={.status.containerStatuses[0].restartCount}=1")


def test_the_api_server_goes_and_comes_back(cluster: Cluster) -> None:
    cluster.stop_api()
    try:
        with pytest.raises(ClusterError):
            cluster.kubectl("get", "--raw=/readyz", timeout=10)
    finally:
        cluster.start_api()
    assert cluster.kubectl("get", "--raw=/readyz") == "ok"


def test_a_second_up_says_that_it_is_up(cluster: Cluster) -> None:
    done = command("up", cluster.folder)
    assert done.wait(90) == 0
    said, complained = done.communicate()
    assert f"export KUBECONFIG={cluster.kubeconfig}" in said
    assert complained.strip() == "it is up already"
    assert cluster.folder in claims().values()


@pytest.mark.parametrize("seconds", [0.3, 1.2, 2.5])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_up_leaves_nothing(cluster: Cluster, number: signal.Signals, seconds: float) -> None:
    folder, before = ROOT / ".tierserve" / "interrupted", host_settings()
    down(folder)
    process = command("up", folder)
    try:
        link = eventually(lambda: claimed_link(folder), 60, "it has a number")
        assert link is not None
        assert link != cluster.network.link
        time.sleep(seconds)
        process.send_signal(number)
        assert process.wait(90) != 0
        if number == signal.SIGKILL:  # nothing could clean up, so down must do it
            assert traces(folder, link)
            down(folder)
        assert traces(folder, link) == {}
        assert host_settings() == before
    finally:
        process.kill()
        process.communicate()
        down(folder)


@pytest.fixture
def another() -> Iterator[Cluster]:
    """A cluster that one test may take away."""
    with own_cluster(ROOT / ".tierserve" / "another") as found:
        yield found


def test_down_leaves_nothing_but_logs(another: Cluster) -> None:
    takes_pods(another, "default")
    apply(another, "default", pod("stays", "n1", "sleep 600"), pod("host", "n2", "sleep 600", hostNetwork=True))
    wait(another, "default", "pod/stays", "condition=Ready")
    wait(another, "default", "pod/host", "condition=Ready")
    folder, link = another.folder, another.network.link
    assert {"processes", "namespaces", "links", "routes", "cgroups", "claims", "files"} <= traces(folder, link).keys()
    running = daemons(another) + pod_processes(*another.nodes.values())
    assert len(running) > 10
    another.down()
    assert [process for process in running if process.is_running() and alive(process.pid)] == []
    assert traces(folder, link) == {}
    assert (folder / "logs" / "kube-apiserver.log").stat().st_size
    assert attach(folder) is None
    another.down()


def command(name: str, folder: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tests.cluster", name, "--dir", str(folder)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def claimed_link(folder: Path) -> str | None:
    number = number_of(folder)
    return None if number is None else f"ts{number}"
