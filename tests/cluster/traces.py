"""Finds what a cluster leaves on its host, in all places where it could."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import psutil

from tests.cluster.cluster import Cluster
from tests.cluster.node import TUNABLES, Node
from tests.cluster.shell import run

KEPT = {".lock", "logs"}  # these are no traces: they stay on purpose
DIRECTORIES = ["/run/netns", "/run/containerd", "/run/runc", "/var/lib/cni", "/var/lib/kubelet", "/var/lib/containerd"]
DIRECTORIES += ["/var/log/pods", "/var/log/containers", "/opt/containerd", "/opt/cni", "/usr/libexec/kubernetes"]
DIRECTORIES += ["/var/run/kubernetes", "/etc/cni"]


def pod_processes(*nodes: Node) -> list[psutil.Process]:
    """The processes in the pods of nodes, as the host sees them."""
    groups = [f"/{node.cgroup}/" for node in nodes]
    found = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.NoSuchProcess):
            text = Path(f"/proc/{process.pid}/cgroup").read_text()
            if any(group in text for group in groups):
                found.append(process)
    return found


def daemons(cluster: Cluster) -> list[psutil.Process]:
    """The processes on the machines of a cluster outside of pods."""
    machines = [cluster.control.machine, *(node.machine for node in cluster.nodes.values())]
    return [psutil.Process(pid) for machine in machines for pid in machine.processes()]


def traces(folder: Path, link: str) -> dict[str, list[str]]:
    """Everything that exists of the cluster with this folder and link, by kind. Empty if there is nothing."""
    mine = (f"{link}-", str(folder))
    commands = {process.pid: " ".join(_argv(process)) for process in psutil.process_iter()}
    links = [entry["ifname"] for entry in json.loads(run("ip", "-json", "link"))]
    number = int(link.removeprefix("ts"))
    ranges = (f"172.30.{number}.", f"10.{244 + number}.", f"10.{96 + number}.")
    found = {
        "processes": [f"{pid} {command}" for pid, command in commands.items() if str(folder) in command],
        "mounts": [
            line for line in Path("/proc/mounts").read_text().splitlines() if any(word in line for word in mine)
        ],
        "namespaces": [path.name for path in Path("/run/netns").glob("*") if path.name.startswith(f"{link}-")],
        "links": [name for name in links if name == link or name.startswith(f"{link}-")],
        "routes": [line for line in run("ip", "route", "show", "table", "all").splitlines() if _names(line, ranges)],
        "cgroups": [str(path) for path in Path("/sys/fs/cgroup").rglob(f"{link}-*")],
        "claims": [str(path) for path in Path("/run/tierserve-clusters").glob("*") if path.read_text() == str(folder)],
        "files": [path.name for path in folder.glob("*") if path.name not in KEPT],
    }
    return {kind: things for kind, things in found.items() if things}


def host_settings() -> dict[str, object]:
    """The settings of the host that a kubelet or a network plugin could change."""
    tunables = {path: Path(f"/proc/sys/{path}").read_text() for path in (*TUNABLES, "net/ipv4/ip_forward")}
    return {**tunables, **{path: Path(path).exists() for path in DIRECTORIES}, "rules": run("nft", "list", "ruleset")}


def _names(line: str, ranges: tuple[str, ...]) -> bool:
    return any(word.startswith(ranges) for word in line.split())


def _argv(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []
