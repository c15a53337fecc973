"""Releases with odd names, as a part of another chart, and by Helm 3: each answers, and goes without a trace.

What could break: names and labels that YAML takes for numbers or booleans (objects that are not accepted, selectors
that select nothing), a Service whose name begins with a digit, pods of a user that the images do not know, names of
cluster-wide objects that two releases share, values that reach a chart only through its parent.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import binaries
from tests.cluster.cluster import Cluster
from tests.cluster.images import build
from tests.cluster.shell import run
from tests.e2e.deployment import BROKEN, CHART, HELM_SECONDS, OPEN, ask
from tests.e2e.pictures import CAT
from tests.service.test_classify import is_cat
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

ANYBODY = 1000680000  # such a user as OpenShift chooses
KINDS = ",".join(
    [
        *("deployments", "services", "pods", "jobs", "persistentvolumeclaims", "configmaps", "secrets"),
        *("serviceaccounts", "roles", "rolebindings", "resourcequotas", "limitranges", "networkpolicies"),
    ]
)
CLUSTER_WIDE = "clusterroles,clusterrolebindings"


def values(namespace: str, tier: str) -> dict[str, Any]:
    """Values of a release with one tier, which everybody may use, and whose claim goes with it."""
    one = {
        "namespace": {"name": namespace},
        "access": OPEN,
        "template": "free.yaml.j2",
        "quota": {"cpu": "1"},
        "waits": {"idleSeconds": 5},
    }
    model = {"name": "tf_efficientnet_lite0", "variant": "int8"}
    return {
        "server": {"image": {"repository": "localhost/tierserve-server"}},
        "worker": {"image": {"repository": "localhost/tierserve-worker"}},
        "persistence": {"keep": False, "size": "1Gi"},
        "tiers": {"free": {"enabled": False}, "premium": {"enabled": False}, tier: {**one, "model": model}},
    }


@contextmanager
def installed(
    cluster: Cluster, program: str, release: str, namespace: str, chart: Path, given: dict[str, Any], folder: Path
) -> Iterator[None]:
    """A release while the block lasts. Then it is removed with its namespaces, and nothing of it may be left."""
    for target in ("server", "worker"):
        cluster.load_image(build(target))
    file = folder / "values.json"
    file.write_text(json.dumps(given))
    helm = binaries.ensure([program]) / program
    where = ("--kubeconfig", str(cluster.kubeconfig), "--namespace", namespace)
    words = ("--create-namespace", "--values", str(file), "--wait", "--timeout=2m")
    ours = f"--selector=app.kubernetes.io/instance={release}"
    try:
        run(helm, "install", release, chart, *words, *where, timeout=HELM_SECONDS)
        yield
        run(helm, "uninstall", release, "--wait", "--timeout=2m", *where, timeout=HELM_SECONDS)
        eventually(
            lambda: [*of(cluster, CLUSTER_WIDE, ours), *of(cluster, KINDS, ours, "--all-namespaces")],
            90,
            "nothing of the release is left but the Secret that it keeps",
            lambda left: [(each["kind"], each["metadata"]["name"][-7:]) for each in left] == [("Secret", "-access")],
        )
    finally:
        tiers = [each["metadata"]["name"] for each in of(cluster, "namespaces", ours)]
        cluster.kubectl("delete", "namespace", namespace, *tiers, "--ignore-not-found", timeout=120)


def of(cluster: Cluster, kinds: str, *words: str) -> list[dict[str, Any]]:
    """Objects of these kinds."""
    found: list[dict[str, Any]] = json.loads(cluster.kubectl("get", kinds, "-o", "json", *words))["items"]
    return found


def answers(cluster: Cluster, namespace: str, tier: str) -> dict[str, Any]:
    """Have the release label a picture; returns the pod of its server."""
    (service,) = (
        each["spec"]
        for each in of(cluster, "services", f"--namespace={namespace}")
        if each["spec"]["ports"][0]["name"] == "http"
    )
    address = service["clusterIP"], service["ports"][0]["port"]
    eventually(lambda: ask(address, "GET", "/readyz"), 90, "it is ready", lambda said: said.status == 200, BROKEN)
    assert is_cat(ask(address, "POST", f"/img-classification/{tier}", CAT, {"Prefer": "wait=60"}))
    (pod,) = of(cluster, "pods", f"--namespace={namespace}", "--selector=app.kubernetes.io/component=server")
    return pod


def test_a_release_whose_names_are_numbers_and_switches(own_cluster: Cluster, tmp_path: Path) -> None:
    given = values("1e3", "no") | {"runAsUser": ANYBODY, "commonLabels": {"answer": "42", "on": "off"}}
    with installed(own_cluster, "helm", "9991103", "9991104", CHART, given, tmp_path):
        pod = answers(own_cluster, "9991104", "no")
        assert pod["metadata"]["labels"]["app.kubernetes.io/instance"] == "9991103"
        workers = of(own_cluster, "pods", "--namespace=1e3")
        users = {each["spec"]["securityContext"]["runAsUser"] for each in (pod, *workers)}
        assert (len(workers) >= 1, users) == (True, {ANYBODY})


def test_a_part_of_another_chart_that_helm_3_installs(own_cluster: Cluster, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(CHART, whole / "charts" / "tierserve")
    part = {
        "name": "tierserve",
        "version": "0.1.0",
        "repository": "",
        "alias": "pictures",
        "condition": "pictures.enabled",
    }
    parent = {"apiVersion": "v2", "name": "whole", "version": "1.0.0", "dependencies": [part]}
    (whole / "Chart.yaml").write_text(yaml.safe_dump(parent))
    given = {"pictures": values("whole-tier", "fast") | {"enabled": True}, "global": {"team": "vision"}}
    with installed(own_cluster, "helm3", "whole", "whole-system", whole, given, tmp_path):
        pod = answers(own_cluster, "whole-system", "fast")
        assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "pictures"
