"""Sends signals to the processes of pods on their nodes, and cuts pods off from the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.machine import Machine


def send(cluster: Cluster, pod: dict[str, Any], signal: str) -> None:
    """Send a signal to the first process of a pod's container, without the kubelet's knowledge."""
    machine, container = _place(cluster, pod)
    machine.run("ctr", "-n", "k8s.io", "tasks", "kill", "--signal", signal, container)


@contextmanager
def stilled(cluster: Cluster, pod: dict[str, Any]) -> Iterator[None]:
    """While the block lasts, a pod's process does nothing, and its connections stay as they are."""
    send(cluster, pod, "SIGSTOP")
    try:
        yield
    finally:
        send(cluster, pod, "SIGCONT")


@contextmanager
def cut_off(cluster: Cluster, pod: dict[str, Any]) -> Iterator[None]:
    """While the block lasts, drop all packets to and from a pod. Nobody gets an error, only silence."""
    machine, container = _place(cluster, pod)
    listed = machine.run("ctr", "-n", "k8s.io", "tasks", "list").splitlines()
    process = next(line.split()[1] for line in listed if line.startswith(container))
    rules = [["INPUT", "--jump", "DROP"], ["OUTPUT", "--jump", "DROP"]]
    for rule in rules:
        machine.run("nsenter", "--target", process, "--net", "iptables", "--insert", *rule)
    try:
        yield
    finally:
        for rule in rules:
            machine.run("nsenter", "--target", process, "--net", "iptables", "--delete", *rule)


def _place(cluster: Cluster, pod: dict[str, Any]) -> tuple[Machine, str]:
    """The machine on which a pod's container runs, and the container's id there."""
    container = str(pod["status"]["containerStatuses"][0]["containerID"]).removeprefix("containerd://")
    return cluster.nodes[pod["spec"]["nodeName"]].machine, container
