"""The wires: a link on the host, a network namespace for each machine, and a bridge in the control plane's namespace.

All names and addresses follow from a small number, so that several clusters can run at once. Outside their namespaces,
nothing of them is visible but a link ``tsN`` and its routes.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.shell import ClusterError, run

CONTROL = "control"
NETNS = Path("/run/netns")
# How long a node remembers to which pod it sent a connection that got no answer. The usual 120 s are too long for the
# one host from which all tests connect: within them it uses the same source port again, and the node would send that
# connection to the same pod, which may be gone.
SYN_SENT_TIMEOUT, SYN_SENT_SECONDS = "net.netfilter.nf_conntrack_tcp_timeout_syn_sent", 2


@dataclass(frozen=True, slots=True)
class Network:
    """The names and addresses of the cluster that has this number."""

    number: int
    nodes: tuple[str, ...]

    @property
    def link(self) -> str:
        """The name of the host's link."""
        return f"ts{self.number}"

    @property
    def host(self) -> str:
        """The host's address."""
        return f"172.30.{self.number}.1"

    @property
    def control(self) -> str:
        """The address of the API server and the cluster's DNS."""
        return f"172.30.{self.number}.2"

    @property
    def pods(self) -> str:
        """The range of all pods."""
        return f"10.{244 + self.number}.0.0/16"

    @property
    def services(self) -> str:
        """The range of cluster addresses. The host reaches them through the first node."""
        return f"10.{96 + self.number}.0.0/16"

    @property
    def api_service(self) -> str:
        """The cluster address of the API server."""
        return f"10.{96 + self.number}.0.1"

    def address(self, node: str) -> str:
        """A node's address."""
        return f"172.30.{self.number}.{11 + self.nodes.index(node)}"

    def node_pods(self, node: str) -> str:
        """The range of a node's pods."""
        return f"10.{244 + self.number}.{1 + self.nodes.index(node)}.0/24"

    def namespace(self, machine: str) -> str:
        """The name of a machine's network namespace."""
        return f"{self.link}-{machine}"

    @property
    def machines(self) -> tuple[str, ...]:
        """Every machine: the control plane and the nodes."""
        return (CONTROL, *self.nodes)

    def conflict(self) -> str | None:
        """What on this host prevents this network, or None."""
        if Path(f"/sys/class/net/{self.link}").exists():
            return f"there is a network link {self.link} already"
        for machine in self.machines:
            if (NETNS / self.namespace(machine)).exists():
                return f"there is a network namespace {self.namespace(machine)} already"
        ours = [ipaddress.ip_network(text) for text in (f"172.30.{self.number}.0/24", self.pods, self.services)]
        for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all")):
            there = ipaddress.ip_network(route["dst"] if route["dst"] != "default" else "0.0.0.0/0")
            if there.prefixlen and any(there.overlaps(network) for network in ours):
                return f"this host has a route to {there} already"
        return None

    def create(self) -> None:
        """Make the namespaces, the wires and the routes."""
        control = self.namespace(CONTROL)
        for machine in self.machines:
            run("ip", "netns", "add", self.namespace(machine))
        lines = ["link set lo up", "link add nodes type bridge", f"addr add {self.control}/24 dev nodes"]
        lines += ["link set nodes up"]
        for node in self.nodes:
            lines += [f"link add {node} type veth peer name eth0 netns {self.namespace(node)}"]
            lines += [f"link set {node} master nodes up"]
            lines += [f"route add {self.node_pods(node)} via {self.address(node)}"]
        self._batch(lines, control)
        for node in self.nodes:
            lines = ["link set lo up", f"addr add {self.address(node)}/24 dev eth0", "link set eth0 up"]
            lines += [f"route add default via {self.host}"]
            others = [other for other in self.nodes if other != node]
            lines += [f"route add {self.node_pods(other)} via {self.address(other)}" for other in others]
            self._batch(lines, self.namespace(node))
            inside = ("nsenter", f"--net={NETNS / self.namespace(node)}")
            run(*inside, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            run(*inside, "sysctl", "-qew", f"{SYN_SENT_TIMEOUT}={SYN_SENT_SECONDS}")
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "host", "netns", control)
        self._batch(["link set host master nodes up"], control)
        lines = [f"addr add {self.host}/24 dev {self.link}", f"link set {self.link} up"]
        lines += [f"route add {self.node_pods(node)} via {self.address(node)}" for node in self.nodes]
        self._batch([*lines, f"route add {self.services} via {self.address(self.nodes[0])}"])

    def delete(self) -> None:
        """Remove all of it. What is already gone is no error."""
        if Path(f"/sys/class/net/{self.link}").exists():
            run("ip", "link", "del", self.link)
        for machine in self.machines:
            if (NETNS / self.namespace(machine)).exists():
                run("ip", "netns", "del", self.namespace(machine))
        if NETNS.is_mount() and not any(NETNS.iterdir()):  # ip made this mount with the first namespace
            run("umount", NETNS)
            NETNS.rmdir()

    def _batch(self, lines: list[str], namespace: str | None = None) -> None:
        where = ["-n", namespace] if namespace else []
        run("ip", *where, "-batch", "-", stdin="\n".join(lines) + "\n")


def free_network(nodes: tuple[str, ...], taken: set[int]) -> Network:
    """The first network that nothing uses. Raises ``ClusterError`` if all are in use."""
    reasons = []
    for number in range(10):
        network = Network(number, nodes)
        conflict = "another cluster runs there" if number in taken else network.conflict()
        if conflict is None:
            return network
        reasons.append(f"{network.link}: {conflict}")
    raise ClusterError("no room for another cluster: " + "; ".join(reasons))
