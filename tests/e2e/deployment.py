"""A release of the chart on a cluster, as clients, operators and administrators of the cluster use it."""

from __future__ import annotations

import http.client
import json
import operator
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.cluster import binaries
from tests.cluster.cluster import Cluster, Kubernetes
from tests.cluster.images import build
from tests.cluster.shell import ClusterError, run
from tests.e2e.things import Thing
from tests.e2e.watching import Watch
from tests.running import ROOT, Answer
from tests.waiting import eventually

CHART = ROOT / "chart"
GIVEN_VALUES = "TIERSERVE_E2E_SET"  # key=value words for a cluster elsewhere: its images, its storage class
RELEASE = NAMESPACE = "tierserve"
SERVER_UID = 10001
HELM_SECONDS = 180.0
CONNECT_SECONDS = 2.5  # a packet that was lost with a pod is sent again after 1 s, 3 s, 7 s ...: a new try is faster
ANSWER_SECONDS = 120.0
TIERS = ("free", "premium")
# Most tests ask without a key and all from one address: their tiers are open to everybody, without limits.
OPEN = {"anonymous": True, "perSecond": 0, "burst": 0, "perDay": 0, "queued": 0, "bytesQueued": 0}
BROKEN = (OSError, http.client.HTTPException)  # a connection that broke, or could not be made
SERVERS = "app.kubernetes.io/component=server"
IMAGES = (
    "server.image.repository=localhost/tierserve-server",
    "worker.image.repository=localhost/tierserve-worker",
)
# A volume on the node that the tests take for the server's: our own cluster's provisioner would choose one.
VOLUME = """
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec:
  capacity: {{storage: 20Gi}}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  local: {{path: {path}}}
  nodeAffinity:
    required:
      nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [n1]}}]}}]
"""


class Deployment:
    """One release of the chart. ``sets`` are ``--set`` flags that stay for as long as it is installed."""

    def __init__(self, cluster: Kubernetes, *sets: str) -> None:
        self.cluster = cluster
        given = tuple(os.environ.get(GIVEN_VALUES, "").split())
        self.sets = (*(IMAGES if isinstance(cluster, Cluster) else given), *opened(*TIERS), *sets)
        self._helm = binaries.ensure(["helm"]) / "helm"
        self._address: tuple[str, int] | None = None
        self._forward: subprocess.Popen[str] | None = None

    def install(self) -> str:
        """Install the chart and wait until the server is ready; returns what Helm says."""
        if isinstance(self.cluster, Cluster):
            self._make_volume(self.cluster)
            self.sets = (*self.sets, "persistence.storageClass=-", "persistence.size=1Gi")
        said = self.helm("install", RELEASE, str(CHART), "--create-namespace", *self.flags(), "--wait", "--timeout=2m")
        self.wait_ready()
        return said

    def upgrade(self, *sets: str, values: Path | None = None) -> str:
        """Change values, as an operator does, and keep them for later upgrades."""
        self.sets = (*self.sets, *sets)
        files = ("--values", str(values)) if values else ()
        said = self.helm("upgrade", RELEASE, str(CHART), *files, *self.flags(), "--wait", "--timeout=2m")
        self.hand_on()
        return said

    def hand_on(self) -> None:
        """Have changed ConfigMaps and Secrets handed on to the servers now. A kubelet does it once a minute."""
        mark = ("annotate", "pods", f"--selector={SERVERS}", f"tierserve.dev/synced={time.monotonic_ns()}")
        eventually(
            lambda: self.kubectl(*mark, "--overwrite"), 30, "the servers' pods are marked", despite=(ClusterError,)
        )

    @contextmanager
    def changed(self, *sets: str, values: Path | None = None) -> Iterator[None]:
        """Change values while the block lasts, and back even if it fails; wait for the server after each change."""
        before = self.sets
        try:
            self.upgrade(*sets, values=values)
            self.wait_ready()
            yield
        finally:
            self.sets = before
            self.upgrade()
            self.wait_ready()

    def uninstall(self) -> str:
        """Remove the release; the tiers' namespaces stay."""
        self._address = None
        return self.helm("uninstall", RELEASE, "--wait", "--timeout=2m")

    def remove(self) -> None:
        """Remove all that was installed, and what a release leaves on purpose."""
        if self._forward is not None:
            self._forward.terminate()
            self._forward.communicate(timeout=10)
        # The server goes last: workers that cannot hand back their work to it use all of their grace.
        self.cluster.kubectl("delete", "namespace", "--selector=tierserve.dev/tier", timeout=120)
        with suppress(ClusterError):
            self.uninstall()
        self.cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=120)
        self.cluster.kubectl("delete", "persistentvolume", "tierserve-state", "--ignore-not-found", timeout=60)

    def helm(self, *words: str) -> str:
        """Run helm in the release's namespace. Raises ``ClusterError`` with what it complained about."""
        flags = ("--kubeconfig", str(self.cluster.kubeconfig), "--namespace", NAMESPACE)
        return run(self._helm, *words, *flags, timeout=HELM_SECONDS)

    def wait_ready(self, seconds: float = 90.0) -> None:
        """Return when the server is ready."""
        eventually(lambda: self.get("/readyz"), seconds, "the server is ready", lambda said: said.status == 200, BROKEN)

    def post(self, tier: str, body: bytes, headers: Mapping[str, str] | None = None, query: str = "") -> Answer:
        """POST a picture to a tier."""
        given = {"Content-Type": "application/octet-stream", **(headers or {})}
        return self.ask("POST", f"/img-classification/{tier}{query}", body, given)

    def submit(self, tier: str, body: bytes) -> str:
        """POST a picture without waiting; returns the prediction's id."""
        answer = self.post(tier, body, {"Prefer": "respond-async"})
        assert answer.status == 202, answer.body
        return str(answer.json["id"])

    def prediction(self, key: str) -> dict[str, Any]:
        """A prediction, as the server tells it now."""
        answer = self.get(f"/v1/predictions/{key}")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json
        return found

    def ended(self, key: str, seconds: float = 120.0) -> dict[str, Any]:
        """Wait until a prediction has ended, also while the server is away or answers 503, and return it."""

        def look() -> Answer:
            answer = self.get(f"/v1/predictions/{key}")
            assert answer.status in (200, 503), answer
            return answer

        def final(answer: Answer) -> bool:
            return answer.status == 200 and answer.json["completed_at"] is not None

        found: dict[str, Any] = eventually(look, seconds, f"the prediction {key} ends", final, BROKEN).json
        return found

    def get(self, path: str) -> Answer:
        """GET a path of the public port."""
        return self.ask("GET", path)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request to the public port."""
        return ask(self.address(), method, path, body, headers)

    def address(self) -> tuple[str, int]:
        """The address of the public port: that of the Service, or a forwarded port if the cluster is elsewhere."""
        if not isinstance(self.cluster, Cluster):
            return self._forwarded()
        if self._address is None:
            service = json.loads(self.kubectl("get", "service", RELEASE, "-o", "json"))["spec"]
            self._address = service["clusterIP"], service["ports"][0]["port"]
        return self._address

    def tier(self, name: str) -> dict[str, Any]:
        """What ``GET /v1/tiers`` says of a tier."""
        found: dict[str, Any] = next(tier for tier in self.get("/v1/tiers").json["tiers"] if tier["name"] == name)
        return found

    def kubectl(self, *words: str, namespace: str = NAMESPACE, stdin: str | None = None, timeout: float = 60) -> str:
        """Run kubectl in a namespace."""
        return self.cluster.kubectl("--namespace", namespace, *words, stdin=stdin, timeout=timeout)

    def items(self, kind: str, namespace: str | None, labels: str = "", fields: str = "") -> list[Thing]:
        """Objects of the cluster."""
        where = ("--namespace", namespace) if namespace else ()
        what = ("get", kind, "-o", "json", f"--selector={labels}", f"--field-selector={fields}")
        return [Thing(item) for item in json.loads(self.cluster.kubectl(*where, *what))["items"]]

    def pods(self, tier: str) -> list[Thing]:
        """The worker pods of a tier that are pending or running."""
        pods = self.items("pods", f"tierserve-{tier}", "app.kubernetes.io/managed-by=tierserve")
        return [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]

    def jobs(self, tier: str) -> list[Thing]:
        """The worker Jobs of a tier, including those that have ended."""
        return self.items("jobs", f"tierserve-{tier}", "app.kubernetes.io/managed-by=tierserve")

    def server_pods(self) -> list[Thing]:
        """The servers' pods, without those that are being deleted."""
        pods = self.items("pods", NAMESPACE, SERVERS)
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def server_pod(self) -> Thing:
        """One of the servers' pods."""
        return next(iter(self.server_pods()))

    def server_image(self) -> str:
        """The image that the server runs."""
        return str(self.server_pod()["spec"]["containers"][0]["image"])

    def log(self) -> str:
        """The log of the server's pod."""
        return self.kubectl("logs", f"deployment/{RELEASE}")

    def idle(self, tier: str, seconds: float = 90.0) -> None:
        """Return when no worker of the tier is left."""
        eventually(lambda: self.pods(tier) + self.jobs(tier), seconds, f"no worker of {tier} is left", operator.not_)

    @contextmanager
    def watching(self, tier: str, kind: str = "pods") -> Iterator[Watch]:
        """Watch the pods, or Jobs, of the tier while the block lasts; those of all tiers if it is empty."""
        watch = Watch(self.cluster, tier and f"tierserve-{tier}", kind)
        try:
            yield watch
        finally:
            watch.stop()

    def many(self, tier: str, bodies: list[bytes], headers: Mapping[str, str] | None = None) -> list[Answer]:
        """POST all bodies at the same time; return the answers in the order of the bodies."""
        with ThreadPoolExecutor(len(bodies)) as pool:
            return list(pool.map(lambda body: self.post(tier, body, headers), bodies))

    def flags(self) -> list[str]:
        """The flags that tell Helm the values."""
        return [word for pair in self.sets for word in ("--set", pair)]

    def _make_volume(self, cluster: Cluster) -> None:
        path = cluster.node_directory("n1", f"state-{time.monotonic_ns()}")
        os.chown(path, SERVER_UID, SERVER_UID)
        cluster.kubectl("apply", "-f", "-", stdin=VOLUME.format(name="tierserve-state", path=path))

    def _forwarded(self) -> tuple[str, int]:
        if self._forward is None or self._forward.poll() is not None:
            words = ["--kubeconfig", str(self.cluster.kubeconfig), "--namespace", NAMESPACE]
            words += ["port-forward", f"service/{RELEASE}", ":80"]
            command = [str(self.cluster.binaries / "kubectl"), *words]
            self._forward = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            assert self._forward.stdout is not None
            said = re.search(r"127\.0\.0\.1:(\d+)", self._forward.stdout.readline())
            if said is None:
                raise ConnectionError("kubectl port-forward found no server")
            self._address = "127.0.0.1", int(said[1])
        assert self._address is not None
        return self._address


def ask(
    address: tuple[str, int],
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request on a new connection."""
    connection = http.client.HTTPConnection(*address, timeout=CONNECT_SECONDS)
    try:
        connection.connect()
        connection.sock.settimeout(ANSWER_SECONDS)
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def opened(*tiers: str) -> list[str]:
    """The flags that open tiers to everybody, without limits."""
    return [f"tiers.{tier}.access.{key}={json.dumps(value)}" for tier in tiers for key, value in OPEN.items()]


def deploy(cluster: Kubernetes, *sets: str) -> Deployment:
    """Install the chart; on our own cluster with the images of this checkout."""
    deployment = Deployment(cluster, *sets)
    if isinstance(cluster, Cluster):
        for target in ("server", "worker"):
            cluster.load_image(build(target))
    deployment.install()
    return deployment
