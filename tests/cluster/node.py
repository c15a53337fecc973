"""A node: containerd, kubelet and kube-proxy on a machine of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.cluster import cgroups, packages
from tests.cluster.base import contents
from tests.cluster.busybox import PAUSE
from tests.cluster.control import Control
from tests.cluster.machine import Machine
from tests.cluster.shell import Say, until

SOCKET = "/run/containerd/containerd.sock"
SOCKET_SECONDS = 60.0
LOAD_SECONDS = 120.0
CONTAINERD = """version = 2
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true  # without CAP_SYS_RESOURCE nothing may lower its score
  sandbox_image = "{pause}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}"
"""
TUNABLES = {  # the values that a kubelet requires and would otherwise set for the whole host
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


class Node:
    """One node. All its data is in one folder."""

    def __init__(self, name: str, control: Control, cpus: int) -> None:
        self.name, self.control, self.cpus = name, control, cpus
        self.folder = control.folder / name
        self.volumes = self.folder / "volumes"
        self.machine = Machine(control.network.namespace(name), control.machine.logs)
        self.cgroup = self.machine.namespace

    def prepare(self) -> None:
        """Write the settings of its daemons."""
        plugins = packages.cni_directory()
        for part in ("cni", "containerd", "kubelet", "tunables", "volumes"):
            (self.folder / part).mkdir(parents=True)
        (self.machine.logs / self.name).mkdir()
        for path, value in TUNABLES.items():
            self._tunable(path).write_text(value)
        (self.folder / "cni" / "10.conflist").write_text(json.dumps(self._cni()))
        config = CONTAINERD.format(pause=PAUSE, plugins=plugins, folder=self.folder / "cni")
        (self.folder / "containerd.toml").write_text(config)
        (self.folder / "resolv.conf").write_text(f"nameserver {self.control.network.control}\n")
        (self.folder / "kubelet.json").write_text(json.dumps(self._kubelet(), indent=1))
        (self.folder / "proxy.json").write_text(json.dumps(self._proxy(), indent=1))

    def start_machine(self) -> None:
        """Start the machine with containerd."""
        cgroups.create(self.cgroup)
        binds = {
            "/var/lib/containerd": self.folder / "containerd",
            "/var/lib/kubelet": self.folder / "kubelet",
            "/var/log": self.machine.logs / self.name,
            "/etc/resolv.conf": self.folder / "resolv.conf",
            **{f"/proc/sys/{path}": self._tunable(path) for path in TUNABLES},
        }
        self.machine.start(private=("/run", "/var/lib"), binds=binds)
        self.machine.spawn(f"{self.name}-containerd", "containerd", "-c", self.folder / "containerd.toml")

    def wait_containerd(self) -> None:
        """Return when containerd answers. Raises ``ClusterError`` if it does not."""
        what = f"containerd answers on {self.name}, see {self.machine.logs}"
        until(lambda: self.machine.run("ctr", "version", timeout=10), SOCKET_SECONDS, what)

    def load_image(self, archive: Path, say: Say = lambda line: None) -> None:
        """Put those images of an OCI archive on the node that it does not have."""
        there = {tuple(line.split()[:3:2]) for line in self._ctr("images", "list").splitlines()}
        if missing := [name for name, digest in contents(archive).items() if (name, digest) not in there]:
            say(f"loading {', '.join(missing)} onto {self.name}")
            self._ctr("images", "import", archive.resolve(), timeout=LOAD_SECONDS)

    def start_daemons(self) -> None:
        """Start kubelet and kube-proxy. containerd must run already."""
        binaries, address = self.control.binaries, self.control.network.address(self.name)
        self.machine.spawn(
            f"{self.name}-kubelet",
            binaries / "kubelet",
            f"--config={self.folder / 'kubelet.json'}",
            f"--kubeconfig={self.control.kubeconfig(self.name)}",
            f"--hostname-override={self.name}",
            f"--node-ip={address}",
        )
        self.machine.spawn(f"{self.name}-kube-proxy", binaries / "kube-proxy", f"--config={self.folder / 'proxy.json'}")

    def stop(self) -> None:
        """End everything that runs on the node at once, as when a machine is lost."""
        self.machine.kill()
        cgroups.remove(self.cgroup)

    def _ctr(self, *words: str | Path, timeout: float = 60) -> str:
        return self.machine.run("ctr", "-n", "k8s.io", *words, timeout=timeout)

    def _tunable(self, path: str) -> Path:
        return self.folder / "tunables" / path.replace("/", ".")

    def _cni(self) -> object:
        ranges = [[{"subnet": self.control.network.node_pods(self.name)}]]
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
        }
        portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, portmap]}

    def _kubelet(self) -> object:
        pki = self.control.authority.folder
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki / f"{self.name}.crt"),
            "tlsPrivateKeyFile": str(pki / f"{self.name}.key"),
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            # A kubelet offers all CPUs of the host. What the node must not offer is reserved.
            "systemReserved": {"cpu": str(max(0, (os.cpu_count() or 1) - self.cpus))},
            "clusterDNS": [self.control.network.control],
            "clusterDomain": "cluster.local",
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            "failSwapOn": False,
            # The default limits would evict pods when the host's disk is 85 % full.
            "evictionHard": {"imagefs.available": "1%", "nodefs.available": "1%", "memory.available": "100Mi"},
            "imageGCHighThresholdPercent": 100,  # images are never removed, because they could not be pulled again
        }

    def _proxy(self) -> object:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clusterCIDR": self.control.network.pods,
            "hostnameOverride": self.name,
            "conntrack": {"maxPerCore": 0},  # 0 leaves the host's limit as it is
            "clientConnection": {"kubeconfig": str(self.control.kubeconfig("kube-proxy"))},
        }
