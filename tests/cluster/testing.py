"""How tests get a cluster: one of their own, which is removed at the end, or any that a kubeconfig leads to."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import binaries, packages
from tests.cluster.cluster import GRACE_SECONDS, Cluster, Kubernetes, attach, down, up
from tests.cluster.shell import ROOT, interrupt
from tests.running import lacking

GIVEN = "TIERSERVE_E2E_KUBECONFIG"
NEEDED = [*binaries.CLUSTER, "helm"]
UNBUILT = "Kubernetes is not built: python -m tests.cluster binaries --all, which takes 15 minutes"


@contextmanager
def session_cluster() -> Iterator[Kubernetes]:
    """The cluster of ``$TIERSERVE_E2E_KUBECONFIG``, or else a new ``Cluster`` while the block lasts.

    If the variable names the kubeconfig of ``make cluster`` (.tierserve/cluster/kubeconfig), that is a ``Cluster`` too.
    """
    given = os.environ.get(GIVEN)
    if given:
        path = Path(given).resolve()
        output = binaries.ensure(["kubectl", "helm"])
        yield attach(path.parent) or Kubernetes(path, output)
    else:
        worker = os.environ.get("PYTEST_XDIST_WORKER")  # each of several processes has a cluster of its own
        with own_cluster(ROOT / ".tierserve" / "-".join(filter(None, ("e2e", worker)))) as cluster:
            yield cluster


@contextmanager
def own_cluster(folder: Path, grace_seconds: int = GRACE_SECONDS) -> Iterator[Cluster]:
    """A new cluster in a folder while the block lasts. What a killed run has left in the folder is removed first.

    Where no cluster can run, the test is skipped with the command that would help. With ``CI=true`` it fails.
    """
    if (reason := obstacle() or (UNBUILT if binaries.absent(NEEDED) else None)) is not None:
        lacking(reason)
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.fail(f"other tests use {folder}: wait for them, or give these a cluster by {GIVEN}")
        before = signal.signal(signal.SIGTERM, interrupt)
        try:
            down(folder)
            yield up(folder, grace_seconds=grace_seconds)
        finally:
            down(folder)
            signal.signal(signal.SIGTERM, before)


def obstacle() -> str | None:
    """Why no cluster can be started here, with the command that helps; None if one can."""
    if os.geteuid() != 0:
        return "root is needed for a cluster: sudo make test-cluster"
    if absent := packages.missing():
        return f"missing packages ({' '.join(absent)}): .venv/bin/python -m tests.cluster packages --install"
    if binaries.absent(NEEDED) and shutil.which("go") is None:
        return "go is needed to build Kubernetes: install it from https://go.dev/dl, then make test-cluster"
    return None
