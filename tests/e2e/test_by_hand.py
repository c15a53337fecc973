"""Runs the commands that README and `make cluster` tell an operator to type."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.storage import NAME as STORAGE_CLASS
from tests.e2e.deployment import NAMESPACE, RELEASE, Deployment
from tests.running import ROOT, free_port

pytestmark = pytest.mark.cluster

README = (ROOT / "README.md").read_text().replace("REGISTRY", "localhost")
FORWARD = f"kubectl -n {NAMESPACE} port-forward"


@pytest.fixture(scope="module")
def printed(own_cluster: Cluster, models: Path) -> Iterator[str]:
    """What `make cluster` prints. What the tests install by it is removed at the end."""
    words = [sys.executable, "-m", "tests.cluster", "up", "--dir", str(own_cluster.folder), "--models", str(models)]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    try:
        yield done.stdout
    finally:
        Deployment(own_cluster).remove()


def shell(*lines: str) -> str:
    """What a shell prints for lines that a person has copied into it."""
    words, env = ["bash", "-ec", "\n".join(lines)], {**os.environ, "KUBECONFIG": "/dev/null"}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def command(text: str, start: str) -> str:
    """The only command in a text that starts so, with its continuation lines."""
    found = re.findall(rf"^ *({re.escape(start)}(?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert len(found) == 1, found
    return str(found[0])


def test_what_is_told_leads_to_a_label_and_to_a_changed_quota(printed: str, own_cluster: Cluster) -> None:
    install = command(printed, "helm install")
    assert install.split() == command(README, "helm install").split()
    exports = printed.removesuffix(f"{install}\n")
    said = shell(printed)
    tested = shell(exports, command(said, f"kubectl -n {NAMESPACE} rollout status"), command(said, "helm test"))
    assert "Succeeded" in tested
    assert "cat" in tested
    claim = json.loads(own_cluster.kubectl("get", "pvc", "-n", NAMESPACE, "-o", "json"))["items"][0]
    assert (claim["spec"]["storageClassName"], claim["status"]["phase"]) == (STORAGE_CLASS, "Bound")
    port = str(free_port())
    forward, ask = (command(said, start).replace("8080", port) for start in (FORWARD, "curl"))
    answer = re.search(r'\{"id".*\}', shell(exports, forward, ask, "kill $!"))
    assert answer is not None
    assert "cat" in json.loads(answer[0])["results"][0]["labels"][0]["label"]
    shell(
        exports,
        command(README, f"helm upgrade {RELEASE} chart --namespace {NAMESPACE} --reset-then-reuse-values --set tiers"),
    )
    quota = json.loads(own_cluster.kubectl("get", "resourcequota", "-n", "tierserve-free", "-o", "json"))["items"][0]
    assert quota["spec"]["hard"]["requests.cpu"] == "4"
