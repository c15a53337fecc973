"""From `helm install` to the first label, and to `helm uninstall`."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.cluster import Kubernetes
from tests.e2e.deployment import NAMESPACE, RELEASE, SERVERS, TIERS, Deployment, deploy
from tests.e2e.pictures import CAT, PICTURES
from tests.service.test_classify import is_cat
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

Pods = list[dict[str, str]]


@pytest.fixture(scope="module")
def deployment(cluster: Kubernetes) -> Iterator[Deployment]:
    found = deploy(cluster, "tiers.free.waits.idleSeconds=5", "tiers.premium.waits.idleSeconds=5")
    try:
        yield found
    finally:
        found.remove()


def test_both_tiers_answer_with_the_right_label(deployment: Deployment) -> None:
    for tier in TIERS:
        assert is_cat(deployment.post(tier, CAT))
    for name, said in {"espresso": "espresso", "rocket": "missile"}.items():
        answer = deployment.post("premium", (PICTURES / f"{name}.jpg").read_bytes())
        assert said in json.dumps(answer.json["results"][0]["labels"][:3])


def test_config_lists_every_pod_as_the_nodes_report_it(deployment: Deployment) -> None:
    def look() -> tuple[Pods, Pods]:
        """The pods that run and those that /config shows. A worker may answer before its kubelet says that it runs."""
        for tier in TIERS:  # so that each tier has a worker
            deployment.post(tier, CAT)
        pods = [*deployment.pods("free"), *deployment.pods("premium"), deployment.server_pod()]
        running = [as_shown(pod) for pod in pods if pod["status"]["phase"] == "Running"]
        return running, deployment.get("/config").json["pods"]

    def agree(seen: tuple[Pods, Pods]) -> bool:
        running, shown = seen
        return len(running) >= 3 and all(any(pod.items() <= one.items() for one in shown) for pod in running)

    eventually(look, 60, "/config shows every pod as the nodes report it", agree)


def as_shown(pod: dict[str, Any]) -> dict[str, str]:
    return {
        "node": pod["spec"]["nodeName"],
        "ip": pod["status"]["podIP"],
        "namespace": pod["metadata"]["namespace"],
        "name": pod["metadata"]["name"],
        "status": "Running",
    }


def test_helm_test_classifies_a_picture_in_each_tier(deployment: Deployment) -> None:
    said = deployment.helm("test", RELEASE, "--logs", "--timeout=2m")
    assert said.count("Succeeded") >= len(TIERS)
    assert said.count("cat") >= len(TIERS)


def test_idle_workers_go_away_and_their_jobs_with_them(deployment: Deployment) -> None:
    with deployment.watching("free") as watch:
        deployment.post("free", CAT)
        watch.settled("a worker came", lambda found: found[0])
    for tier in TIERS:
        deployment.idle(tier)
        used = f"nothing of the quota of {tier} is used"
        eventually(lambda: deployment.tier(tier)["quota"], 30, used, lambda quota: not quota["cpu"]["used"])  # noqa: B023


def test_a_caller_sees_nothing_of_the_cluster_but_in_config_and_the_tiers(deployment: Deployment) -> None:
    pods = deployment.get("/config").json["pods"]
    inside = {pod[key] for pod in pods for key in ("node", "ip", "name", "namespace") if pod[key]}
    for path in ("/v1/models", "/readyz", "/healthz"):
        words = set(re.findall(r"[\w.-]+", deployment.get(path).body.decode()))
        assert not words & inside


def test_the_release_comes_and_goes_and_the_tiers_and_the_queue_stay(deployment: Deployment) -> None:
    key = deployment.submit("free", CAT)
    assert deployment.ended(key)["status"] == "succeeded"
    before = secret(deployment)
    deployment.uninstall()
    names = {item["metadata"]["name"] for item in deployment.items("namespaces", None)}
    assert {"tierserve-free", "tierserve-premium"} <= names
    eventually(lambda: deployment.items("pods", NAMESPACE, SERVERS), 90, "the server is gone", operator.not_)
    deployment.helm("install", RELEASE, "chart", *deployment.flags(), "--wait", "--timeout=2m")
    deployment.wait_ready()
    assert secret(deployment) == before, "what keys are checked with was kept"
    assert deployment.prediction(key)["status"] == "succeeded", "the queue was kept"
    assert is_cat(deployment.post("free", CAT))


def secret(deployment: Deployment) -> dict[str, str]:
    """What is in the Secret that the chart has made."""
    (found,) = deployment.items("secrets", NAMESPACE, fields=f"metadata.name={RELEASE}-access")
    assert found["data"].keys() == {"pepper", "admin-token"}
    return dict(found["data"])
