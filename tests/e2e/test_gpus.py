"""Tiers whose Jobs want GPUs, labels, variables and an image of their own, on a node that offers GPUs.

The node's GPUs are numbers in its status, as a device plugin would write them. There is no CUDA in the cluster, so the
worker runs on the CPU, by a Job template of this test, which differs in that alone.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from server.shipped import TEMPLATES
from tests.cluster.cluster import Cluster
from tests.cluster.images import image_name
from tests.e2e.deployment import Deployment, deploy
from tests.e2e.pictures import CAT, SLOW_TYPE, slow
from tests.service.test_classify import is_cat
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

QUEUE = 777  # by which the values of this test are told apart
NODE, RESOURCE = "n2", "nvidia.com/gpu"
OWN_IMAGE = "localhost/tierserve-worker-gpu:own"
RUNTIME_CLASS = "{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: gpu}, handler: runc}"
FREE = {
    "template": "gpu.yaml.j2",
    "model": {"variant": "fp32", "runtime": "timm"},
    "quota": {"gpus": 1},
    "job": {"cpu": "400m", "gpus": 1, "batch": 4, "labels": {"accelerator": "gpu"}, "runtimeClassName": "gpu"}
    | {"annotations": {"example.org/owner": "vision"}, "env": {"GREETING": "hello: world"}}
    | {"image": {"repository": OWN_IMAGE.split(":")[0], "tag": "own"}},
    "limits": {"queue": QUEUE},
    "waits": {"idleSeconds": 3},
}


def on_the_cpu() -> str:
    """The template of Jobs, with the worker's device and runtime replaced."""
    text = (TEMPLATES / "base.yaml.j2").read_text()
    for ours, instead in (('- "cuda"', '- "cpu"'), ("{{ runtime | tojson }}", '"onnx"')):
        assert ours in text
        text = text.replace(ours, instead)
    return text


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpus") / "values.yaml"
    path.write_text(yaml.safe_dump({"tiers": {"free": FREE}, "jobTemplates": {"gpu.yaml.j2": on_the_cpu()}}))
    return path


@pytest.fixture(scope="module")
def deployment(own_cluster: Cluster) -> Iterator[Deployment]:
    found = deploy(own_cluster, "commonLabels.team=vision")
    try:
        own_cluster.kubectl("apply", "-f", "-", stdin=RUNTIME_CLASS)
        for node in own_cluster.nodes.values():
            node.machine.run("ctr", "-n", "k8s.io", "images", "tag", "--force", image_name("worker"), OWN_IMAGE)
        yield found
    finally:
        own_cluster.kubectl("delete", "runtimeclass", "gpu", "--ignore-not-found")
        found.remove()


@pytest.fixture
def offered(own_cluster: Cluster) -> Iterator[None]:
    """Two GPUs on one node."""
    offer(own_cluster, "add", "2")
    yield
    offer(own_cluster, "remove")


def offer(cluster: Cluster, change: str, count: str = "") -> None:
    """Change what the node offers, and wait until the scheduler may know it."""
    path = f"/status/capacity/{RESOURCE.replace('/', '~1')}"
    patch = json.dumps([{"op": change, "path": path} | ({"value": count} if count else {})])
    cluster.kubectl("patch", "node", NODE, "--subresource=status", "--type=json", f"--patch={patch}")

    def allocatable() -> str:
        node = json.loads(cluster.kubectl("get", "node", NODE, "-o", "json"))
        return str(node["status"]["allocatable"].get(RESOURCE, ""))

    eventually(allocatable, 60, f"{NODE} offers {count or 'no'} GPUs", lambda found: found == count)


def submit_slow(deployment: Deployment, count: int) -> list[str]:
    answers = [deployment.post("free", slow(), {**SLOW_TYPE, "Prefer": "respond-async"}) for _ in range(count)]
    assert {answer.status for answer in answers} == {202}, answers
    return [answer.json["id"] for answer in answers]


def taken_up(deployment: Deployment) -> None:
    """Return when the server goes by the values of this test, and not only the quota."""
    what = "the server has the changed values"
    eventually(lambda: deployment.tier("free")["limits"]["queued"], 90, what, lambda found: found == QUEUE)


def gpus(deployment: Deployment, hard: int) -> None:
    """Return when the server tells of this quota of GPUs."""
    what = f"the quota of GPUs is {hard}"
    eventually(
        lambda: deployment.tier("free")["quota"].get("gpus"), 30, what, lambda found: found and found["hard"] == hard
    )


@pytest.mark.usefixtures("offered")
def test_a_tiers_jobs_go_where_the_gpus_are_as_many_as_its_quota_lets_them(
    deployment: Deployment, values: Path
) -> None:
    with deployment.changed(values=values):
        taken_up(deployment)
        gpus(deployment, 1)
        with deployment.watching("free") as watch:
            keys = submit_slow(deployment, 20)
            said = "quota gpus: 1 of 1 used, a worker takes 1"
            eventually(lambda: deployment.tier("free")["reason"], 60, said, lambda reason: said in reason)
            assert watch.most == 1
            deployment.upgrade("tiers.free.quota.gpus=2", values=values)
            gpus(deployment, 2)
            assert [deployment.ended(key)["status"] for key in keys] == ["succeeded"] * 20
            assert watch.most == 2
            assert {pod["spec"]["nodeName"] for pod in watch.last.values()} == {NODE}
        assert deployment.items("events", "tierserve-free", fields="reason=FailedCreate") == []
        deployment.idle("free")


@pytest.mark.usefixtures("offered")
def test_a_tiers_workers_have_its_image_labels_annotations_and_variables(deployment: Deployment, values: Path) -> None:
    with deployment.changed(values=values):
        taken_up(deployment)
        with deployment.watching("free") as watch, deployment.watching("free", "jobs") as jobs:
            assert is_cat(deployment.post("free", CAT))
            for seen in (watch, jobs):
                seen.settled("its worker was seen", lambda found: found[0])
            (pod,), (job,) = watch.last.values(), jobs.last.values()
        for each in (pod, job):
            labels = each["metadata"]["labels"]
            assert (labels["team"], labels["accelerator"], labels["tierserve.dev/tier"]) == ("vision", "gpu", "free")
        assert pod["metadata"]["annotations"]["example.org/owner"] == "vision"
        assert pod["spec"]["runtimeClassName"] == "gpu"
        (worker,) = pod["spec"]["containers"]
        assert worker["image"] == OWN_IMAGE
        assert {"name": "GREETING", "value": "hello: world"} in worker["env"]
        assert worker["resources"]["limits"][RESOURCE] == "1"
        deployment.idle("free")
        with deployment.watching("premium") as watch:
            assert is_cat(deployment.post("premium", CAT))
            watch.settled("its worker was seen", lambda found: found[0])
            (pod,) = watch.last.values()
        assert (pod["metadata"]["labels"]["team"], pod["metadata"]["labels"].get("accelerator")) == ("vision", None)
        assert pod["spec"]["containers"][0]["image"] == image_name("worker")


def test_without_a_node_that_offers_gpus_jobs_wait_and_their_reason_is_told(
    deployment: Deployment, values: Path
) -> None:
    with deployment.changed("tiers.free.waits.startSeconds=300", values=values):
        taken_up(deployment)
        key = deployment.submit("free", CAT)
        said = f"Insufficient {RESOURCE}"
        eventually(lambda: deployment.tier("free")["reason"], 90, said, lambda reason: said in reason)
        deployment.ask("DELETE", f"/v1/predictions/{key}")
        deployment.kubectl("delete", "jobs", "--all", namespace="tierserve-free")
        eventually(lambda: deployment.pods("free"), 60, "no pod of free is left", operator.not_)
