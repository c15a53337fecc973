"""The cluster as a whole: how it is started, taken down, and broken by tests."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.cluster import binaries, cgroups, packages
from tests.cluster.busybox import write_archive
from tests.cluster.claims import claim, claims, number_of, release
from tests.cluster.control import Control
from tests.cluster.machine import Machine
from tests.cluster.network import Network, free_network
from tests.cluster.node import Node
from tests.cluster.shell import ROOT, ClusterError, Say, direct, run, until
from tests.cluster.storage import manifests

FOLDER = ROOT / ".tierserve" / "cluster"
NODES = ("n1", "n2")
CPUS = 2
READY_SECONDS = 150.0
GRACE_SECONDS = 50  # Kubernetes' own default: a node that is silent for so long is not ready
HIDDEN = (Path("/run"), Path("/var/lib"), Path("/var/log"), Path("/proc"))  # nodes have their own
PARTS = ("pki", "etcd", "audit.yaml", "Corefile", "busybox.tar", "kubeconfig", "ready", *NODES)


def _silent(line: str) -> None:
    """Drop the line."""


class Kubernetes:
    """Any cluster that a kubeconfig leads to."""

    def __init__(self, kubeconfig: Path, binaries: Path) -> None:
        self.kubeconfig, self.binaries = kubeconfig, binaries

    def kubectl(self, *args: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Run kubectl and return what it prints. Raises ``ClusterError`` with its complaint."""
        env = self.environment() | {"KUBECONFIG": str(self.kubeconfig)}
        return run(self.binaries / "kubectl", *args, stdin=stdin, timeout=timeout, env=env)

    def environment(self) -> dict[str, str]:
        """The environment of commands that ask the cluster."""
        return dict(os.environ)


class Cluster(Kubernetes):
    """A cluster that these tests have started, in a folder."""

    def __init__(self, folder: Path, network: Network, output: Path, cpus: int = CPUS) -> None:
        super().__init__(folder / "kubeconfig", output)
        self.folder, self.network, self.logs = folder, network, folder / "logs"
        self.control = Control(folder, network, output, self.logs)
        self.nodes = {name: Node(name, self.control, cpus) for name in network.nodes}

    def environment(self) -> dict[str, str]:
        """The environment of commands that ask the cluster."""
        return direct()

    def load_image(self, archive: Path, say: Say = _silent) -> None:
        """Put the images of an OCI archive on every node that does not have them."""
        for node in self.nodes.values():
            node.load_image(archive, say)

    def node_directory(self, node: str, name: str) -> Path:
        """A directory on a node for a ``hostPath`` volume. Every user may write in it."""
        path = self.nodes[node].volumes / name
        path.mkdir(exist_ok=True)
        path.chmod(0o777)
        return path

    def stop_node(self, name: str) -> None:
        """Lose a node: kubelet, containerd and containers end at once, and the API server hears nothing."""
        self.nodes[name].stop()

    def start_node(self, name: str) -> None:
        """Start a lost node again, with its images and volumes. Returns when it is ready."""
        if self.nodes[name].machine.running():
            raise ClusterError(f"{name} is running")
        self.nodes[name].start_machine()
        self.nodes[name].wait_containerd()
        began = datetime.now(UTC).replace(microsecond=0)
        self.nodes[name].start_daemons()
        self._wait_ready({name}, began)

    def stop_api(self) -> None:
        """End the API server. Everything else goes on."""
        self.control.machine.kill("kube-apiserver")

    def start_api(self) -> None:
        """Start the API server again. Returns when it is ready."""
        self.control.start_api()
        self.control.wait_ready()

    def running(self) -> bool:
        """Whether its control plane runs."""
        return self.control.machine.running()

    def down(self) -> None:
        """Remove the cluster. Only its logs stay."""
        down(self.folder)

    def start(self, grace_seconds: int) -> None:
        """Start everything, on the network that ``up`` has claimed."""
        self.network.create()
        self.control.prepare()
        self.kubeconfig.touch(mode=0o600)  # before the copy, because it contains the administrator's key
        shutil.copyfile(self.control.kubeconfig("admin"), self.kubeconfig)
        for node in self.nodes.values():
            node.prepare()
        self.control.start_machine()
        for node in self.nodes.values():
            node.start_machine()
        archive, busybox = self.folder / "busybox.tar", packages.static_busybox()
        assert busybox is not None  # check has found that no package is missing
        write_archive(busybox, archive)
        for node in self.nodes.values():
            node.wait_containerd()
        self.load_image(archive)
        self.control.wait_ready()
        self.control.start_controllers(grace_seconds)
        began = datetime.now(UTC).replace(microsecond=0)  # nodes tell the time in whole seconds
        for node in self.nodes.values():
            node.start_daemons()
        self._wait_ready(set(self.nodes), began)
        account = ("get", "serviceaccount", "default")  # no pod can be made before it exists
        until(lambda: self.kubectl(*account), READY_SECONDS, "the namespace default has a service account")
        self.kubectl("apply", "-f", "-", stdin=manifests({name: node.volumes for name, node in self.nodes.items()}))
        self.control.start_provisioner()
        (self.folder / "ready").write_text(str(self.binaries))  # comes last: by this file the cluster counts as up

    def _wait_ready(self, nodes: set[str], since: datetime) -> None:
        """Return when nodes have said after ``since`` that they are ready. Raises ``ClusterError`` if they do not.

        What a node said before it was lost stays in the API server, so it does not count.
        """
        what = f"the nodes {', '.join(sorted(nodes))} are ready, see {self.logs}"
        until(lambda: self._ready(since), READY_SECONDS, what, lambda found: nodes <= found)

    def _ready(self, since: datetime) -> set[str]:
        found = set()
        for node in json.loads(self.kubectl("get", "nodes", "--output=json"))["items"]:
            for condition in node["status"].get("conditions", []):
                told = datetime.fromisoformat(condition["lastHeartbeatTime"])
                if condition["type"] == "Ready" and condition["status"] == "True" and told >= since:
                    found.add(node["metadata"]["name"])
        return found


def attach(folder: Path = FOLDER) -> Cluster | None:
    """The cluster that runs in a folder, if there is one."""
    folder = folder.resolve()
    number, ready = number_of(folder), folder / "ready"
    if number is None or not ready.exists():
        return None
    found = Cluster(folder, Network(number, NODES), Path(ready.read_text()))
    return found if found.running() else None


def up(folder: Path = FOLDER, *, cpus: int = CPUS, grace_seconds: int = GRACE_SECONDS, say: Say = _silent) -> Cluster:
    """Start a cluster in a folder and return when its nodes are ready. A cluster that runs there is returned as it is.

    What an interrupted start has left there is removed first. Raises ``ClusterError`` if the cluster cannot start; then
    only its logs stay.
    """
    folder = folder.resolve()
    check(folder)
    output = binaries.ensure(say=say)
    with _locked(folder):
        if (running := attach(folder)) is not None:
            return running
        _remove(folder)
        shutil.rmtree(folder / "logs", ignore_errors=True)
        (folder / "logs").mkdir()
        cluster = Cluster(folder, _claimed(folder), output, cpus)
        say(f"starting cluster {cluster.network.link}, logs in {cluster.logs}")
        try:
            cluster.start(grace_seconds)
        except BaseException:
            _remove(folder)
            raise
    return cluster


def down(folder: Path = FOLDER) -> None:
    """Remove a folder's cluster: processes, mounts, namespaces, links, cgroups and data. Its logs stay."""
    folder = folder.resolve()
    if not folder.exists() and number_of(folder) is None:
        return
    require_root()
    with _locked(folder):
        _remove(folder)


def _remove(folder: Path) -> None:
    number = number_of(folder)
    if number is not None:
        network = Network(number, NODES)
        for machine in network.machines:
            Machine(network.namespace(machine), folder / "logs").kill()
        for machine in network.machines:  # after the processes, because only an empty cgroup can be removed
            cgroups.remove(network.namespace(machine))
        network.delete()
    for part in PARTS:
        path = folder / part
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if number is not None:
        release(number)  # this comes last: until then a later call finds the cluster


def _claimed(folder: Path) -> Network:
    while True:
        network = free_network(NODES, set(claims()))
        if claim(network.number, folder):
            return network


def check(folder: Path) -> None:
    """Raise ``ClusterError`` if something is missing for a cluster in this folder."""
    require_root()
    if absent := packages.missing():
        raise ClusterError(
            f"missing packages: {' '.join(absent)}; .venv/bin/python -m tests.cluster packages --install"
        )
    if any(folder.is_relative_to(path) for path in HIDDEN):
        raise ClusterError(f"a cluster cannot be in {folder}: its nodes have a {folder.parts[1]} of their own")
    if folder.exists() and (foreign := {path.name for path in folder.iterdir()} - {*PARTS, "logs", ".lock"}):
        raise ClusterError(f"{folder} holds other things ({', '.join(sorted(foreign)[:3])}): choose an empty folder")


def require_root() -> None:
    """Raise ``ClusterError`` unless this process runs as root."""
    if os.geteuid() != 0:
        raise ClusterError("root is needed, for namespaces and mounts: sudo .venv/bin/python -m tests.cluster ...")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterError(f"another command is at work in {folder}: wait for it") from None
        yield
