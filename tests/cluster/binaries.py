"""Kubernetes and its storage, Helm, and the chart's checkers: compiled once from pinned Go modules, then cached."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.shell import ClusterError, Say, locked, run

MODULE = Path(__file__).parent
KUBERNETES_VERSION = "v1.34.4"
HELM_VERSION = "v4.3.1"
HELM_3_VERSION = "v3.22.0"
PROMETHEUS = "github.com/prometheus/prometheus@v0.316.0"
BUILD_SECONDS = 1800.0
STILL_SECONDS = 20.0
VERSION = "k8s.io/component-base/version"
FLAGS = "-s -w"
MAJOR, MINOR, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
KUBERNETES_FLAGS = (
    f"{FLAGS} -X {VERSION}.gitVersion={KUBERNETES_VERSION} -X {VERSION}.gitMajor={MAJOR} -X {VERSION}.gitMinor={MINOR}"
)
# The version of Kubernetes that Helm 3 renders for, as Helm's Makefile takes it from its go.mod (client-go v0.37).
HELM_3_FLAGS = " ".join(
    [
        f"{FLAGS} -X helm.sh/helm/v3/internal/version.version={HELM_3_VERSION}",
        *(f"-X helm.sh/helm/v3/pkg/{part}.k8sVersionMajor=1" for part in ("chartutil", "lint/rules")),
        *(f"-X helm.sh/helm/v3/pkg/{part}.k8sVersionMinor=37" for part in ("chartutil", "lint/rules")),
    ]
)


@dataclass(frozen=True, slots=True)
class Program:
    """A binary: a ``package`` of this folder's go.mod, or ``package@version`` as ``go install`` takes it.

    If ``module`` (with its version) is given, the package is built inside that module. ``go install`` would refuse a
    module that has replace directives. ``tags`` are Go's build tags.
    """

    name: str
    package: str
    module: str | None = None
    flags: str = FLAGS
    tags: str = field(default="", repr=False)  # beside the key of those that have none, which stays as it was


KUBERNETES = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"]
PROGRAMS = [
    *(Program(name, f"k8s.io/kubernetes/cmd/{name}", flags=KUBERNETES_FLAGS) for name in KUBERNETES),
    Program("etcd", "go.etcd.io/etcd/server/v3"),
    Program("coredns", "github.com/coredns/coredns@v1.14.7"),
    Program("local-path-provisioner", "github.com/rancher/local-path-provisioner@v0.0.30"),
    Program("helm", f"helm.sh/helm/v4/cmd/helm@{HELM_VERSION}"),
    Program("helm3", "./cmd/helm", module=f"helm.sh/helm/v3@{HELM_3_VERSION}", flags=HELM_3_FLAGS),
    Program("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0"),
    Program("kube-score", "github.com/zegl/kube-score/cmd/kube-score@v1.20.0"),
    Program("untt", "./cmd/helm-unittest", module="github.com/helm-unittest/helm-unittest@v1.1.2"),
    # Without the clients of all clouds and registries in which Prometheus can find targets.
    Program("prometheus", "./cmd/prometheus", module=PROMETHEUS, tags="remove_all_sd"),
    Program("promtool", "./cmd/promtool", module=PROMETHEUS, tags="remove_all_sd"),
    Program("cyclonus", "github.com/mattfenwick/cyclonus/cmd/cyclonus@v0.5.6"),
]
NAMES = [program.name for program in PROGRAMS]
CLUSTER = [*KUBERNETES, "etcd", "coredns", "local-path-provisioner", "helm"]


def folder() -> Path:
    """The folder of the binaries of these versions, whether they are built or not."""
    digest = hashlib.sha256("".join(key(program) for program in PROGRAMS).encode())
    return _cache() / digest.hexdigest()[:12]


def key(program: Program) -> str:
    """A hash of what a binary is made of. When one program changes, the keys of the others stay."""
    digest = hashlib.sha256(repr(program).encode() + program.tags.encode())
    if program.module is None and "@" not in program.package:
        for name in ("go.mod", "go.sum"):
            digest.update((MODULE / name).read_bytes())
    return digest.hexdigest()[:12]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tierserve" / "bin"


def _built(program: Program) -> Path:
    """Where a binary is once it is built. The folders of all sets of versions with this binary link to it."""
    return _cache() / "built" / f"{program.name}-{key(program)}"


def absent(names: Collection[str] = CLUSTER) -> list[str]:
    """The names of the binaries that are not built yet."""
    return [name for name in names if not (folder() / name).exists()]


def ensure(names: Collection[str] = CLUSTER, say: Say = lambda line: None) -> Path:
    """Build what is missing, and return the folder. Raises ``ClusterError`` with the compiler's output."""
    if unknown := sorted(set(names) - set(NAMES)):
        raise ClusterError(f"no such binary: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    output = folder()
    if not absent(names):
        return output
    output.mkdir(parents=True, exist_ok=True)
    with locked(_cache() / ".lock", say):
        wanted = [program for program in PROGRAMS if program.name in absent(names)]
        todo = [program for program in wanted if not _built(program).exists()]
        if todo and shutil.which("go") is None:
            raise ClusterError("go is needed to build Kubernetes: install Go 1.26 or later from https://go.dev/dl")
        for number, program in enumerate(todo, start=1):
            _build(program, say, f"[{number}/{len(todo)}] {program.name}")
        for program in wanted:
            os.link(_built(program), output / program.name)
    return output


def _build(program: Program, say: Say, title: str) -> None:
    began, built = time.monotonic(), _built(program)
    built.parent.mkdir(exist_ok=True)
    say(f"{title}: building {program.module or program.package}")
    with tempfile.TemporaryDirectory(dir=built.parent, prefix=".building-") as name:
        target = Path(name) / program.name
        env = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath", "GOBIN": name, "GOWORK": "off"}
        argv = ["go", "build", "-o", str(target), "-tags", program.tags, "-ldflags", program.flags, program.package]
        if "@" in program.package:
            argv = ["go", "install", "-ldflags", program.flags, program.package]
        where = MODULE
        if program.module:
            told = run("go", "mod", "download", "-json", program.module, timeout=BUILD_SECONDS)
            where = Path(json.loads(told)["Dir"])
        _compile(argv, where, env, lambda: say(f"{title}: still building, {time.monotonic() - began:.0f} s"))
        target.rename(built)  # so that an interrupted build leaves no half of a binary there
    say(f"{title}: built in {time.monotonic() - began:.0f} s")


def _compile(argv: list[str], where: Path, env: dict[str, str], still: Callable[[], None]) -> None:
    end = time.monotonic() + BUILD_SECONDS
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(argv, cwd=where, env=env, stdout=log, stderr=log) as process,
    ):
        try:
            while process.poll() is None:
                try:
                    process.wait(STILL_SECONDS)
                except subprocess.TimeoutExpired:
                    still()
                if time.monotonic() > end:
                    raise ClusterError(f"not within {BUILD_SECONDS:.0f} s: {' '.join(argv)}")
        finally:
            process.kill()
        if process.returncode:
            log.seek(0)
            lines = [line for line in log.read().splitlines() if not line.startswith("go: downloading")]
            raise ClusterError("\n".join([f"{' '.join(argv)} failed in {where}:", *lines[-20:]]))
