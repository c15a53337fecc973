"""Signals for the processes of pods, sent where they run."""

from __future__ import annotations

from typing import Any

from tests.cluster.cluster import Cluster


def send(cluster: Cluster, pod: dict[str, Any], signal: str) -> None:
    """Send the first process of a pod's container a signal, behind the kubelet's back."""
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    machine = cluster.nodes[pod["spec"]["nodeName"]].machine
    machine.run("ctr", "-n", "k8s.io", "tasks", "kill", "--signal", signal, container)
