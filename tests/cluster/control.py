"""The control plane: etcd, API server, controller manager, scheduler, the cluster's DNS and its storage."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import storage
from tests.cluster.certificates import Authority
from tests.cluster.machine import Machine
from tests.cluster.network import CONTROL, Network
from tests.cluster.shell import direct, run, until

READY_SECONDS = 120.0
# The audit log records only what the service accounts in tierserve's namespaces ask.
AUDIT = """apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    omitManagedFields: true
    userGroups:
      - system:serviceaccounts:tierserve
      - system:serviceaccounts:tierserve-free
      - system:serviceaccounts:tierserve-premium
"""
COREFILE = """cluster.local:53 in-addr.arpa:53 {{
  bind {address}
  errors
  cache 5
  kubernetes {{
    kubeconfig {kubeconfig}
  }}
}}
.:53 {{
  bind {address}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""


class Control:
    """The machine ``control`` and what runs on it."""

    def __init__(self, folder: Path, network: Network, binaries: Path, logs: Path) -> None:
        self.folder, self.network, self.binaries = folder, network, binaries
        self.machine = Machine(network.namespace(CONTROL), logs)
        self.authority = Authority(folder / "pki")
        self.server = f"https://{network.control}:6443"
        self.audit = logs / "audit.log"

    def prepare(self) -> None:
        """Make the certificates and every kubeconfig."""
        network, authority = self.network, self.authority
        authority.create()
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
        addresses = [network.control, network.api_service]
        alternatives = [*(f"DNS:{name}" for name in names), *(f"IP:{address}" for address in addresses)]
        authority.issue("api", "/CN=kube-apiserver", ",".join(alternatives))
        for name, subject in (
            ("admin", "/O=system:masters/CN=admin"),
            ("kube-scheduler", "/CN=system:kube-scheduler"),
            ("kube-controller-manager", "/CN=system:kube-controller-manager"),
            ("kube-proxy", "/CN=system:kube-proxy"),
        ):
            authority.issue(name, subject)
            self.kubeconfig(name).write_text(authority.kubeconfig(name, self.server))
        for node in network.nodes:
            subject = f"/O=system:nodes/CN=system:node:{node}"
            authority.issue(node, subject, f"DNS:{node},IP:{network.address(node)}")
            self.kubeconfig(node).write_text(authority.kubeconfig(node, self.server))

    def kubeconfig(self, name: str) -> Path:
        """The path of a component's kubeconfig."""
        return self.authority.folder / f"{name}.conf"

    def start_machine(self) -> None:
        """Start the machine, with etcd and the API server."""
        self.machine.start(private=("/run",), binds={})
        self.machine.spawn(
            "etcd",
            self.binaries / "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",  # much faster, and nothing of a test cluster must survive its host
        )
        self.start_api()

    def start_api(self) -> None:
        """Start the API server."""
        pki, network, policy = self.authority.folder, self.network, self.folder / "audit.yaml"
        policy.write_text(AUDIT)
        self.machine.spawn(
            "kube-apiserver",
            self.binaries / "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--bind-address={network.control}",
            f"--advertise-address={network.control}",
            f"--service-cluster-ip-range={network.services}",
            f"--tls-cert-file={pki / 'api.crt'}",
            f"--tls-private-key-file={pki / 'api.key'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--service-account-key-file={pki / 'accounts.pub'}",
            f"--service-account-signing-key-file={pki / 'accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction,ResourceQuota,LimitRanger,PodSecurity",
            "--allow-privileged",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit}",
            "--audit-log-maxsize=16",
            "--audit-log-maxbackup=1",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            f"--kubelet-client-certificate={pki / 'admin.crt'}",
            f"--kubelet-client-key={pki / 'admin.key'}",
            "--kubelet-preferred-address-types=InternalIP",
        )

    def wait_ready(self) -> None:
        """Return when the API server says that it is ready. Raises ``ClusterError`` if it does not."""
        kubectl: list[str | Path] = [self.binaries / "kubectl", f"--kubeconfig={self.kubeconfig('admin')}"]
        what = f"the API server is ready, see {self.machine.logs / 'kube-apiserver.log'}"
        until(
            lambda: run(*kubectl, "get", "--raw=/readyz", timeout=10, env=direct()),
            READY_SECONDS,
            what,
            lambda said: said == "ok",
        )

    def start_controllers(self, grace_seconds: int) -> None:
        """Start what uses the API server: the controllers, the scheduler and DNS."""
        self.machine.spawn(
            "kube-controller-manager",
            self.binaries / "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig('kube-controller-manager')}",
            f"--service-account-private-key-file={self.authority.folder / 'accounts.key'}",
            f"--root-ca-file={self.authority.certificate}",
            "--use-service-account-credentials",
            "--leader-elect=false",  # there is only one; elections would delay its start
            f"--node-monitor-grace-period={grace_seconds}s",
        )
        self.machine.spawn(
            "kube-scheduler",
            self.binaries / "kube-scheduler",
            f"--kubeconfig={self.kubeconfig('kube-scheduler')}",
            "--leader-elect=false",
        )
        corefile = self.folder / "Corefile"
        corefile.write_text(COREFILE.format(address=self.network.control, kubeconfig=self.kubeconfig("admin")))
        self.machine.spawn("coredns", self.binaries / "coredns", "-conf", corefile)

    def start_provisioner(self) -> None:
        """Start what makes volumes for claims. Its ConfigMap must exist."""
        self.machine.spawn(
            "local-path-provisioner",
            self.binaries / "local-path-provisioner",
            "start",
            f"--kubeconfig={self.kubeconfig('admin')}",
            f"--namespace={storage.NAMESPACE}",
            f"--configmap-name={storage.NAME}",
            "--service-account-name=default",
        )
