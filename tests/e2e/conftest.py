"""One cluster for all end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster, Kubernetes
from tests.cluster.testing import session_cluster
from tests.e2e import figures


@pytest.fixture(scope="session")
def cluster() -> Iterator[Kubernetes]:
    """Any cluster: that of ``$TIERSERVE_E2E_KUBECONFIG``, or one of our own."""
    with session_cluster() as found:
        yield found


@pytest.fixture(scope="session")
def own_cluster(cluster: Kubernetes) -> Cluster:
    """The cluster, for tests that load images, lose nodes or stop the API server."""
    if not isinstance(cluster, Cluster):
        pytest.skip("needs a cluster of tests/cluster: run it without TIERSERVE_E2E_KUBECONFIG")
    return cluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A first test may have to build images and to start a cluster."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the figures to the process that prints them, where it is another one."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["figures"] = figures.LINES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the figures of a process that pytest-xdist had started, at its end."""
    figures.LINES.extend(getattr(node, "workeroutput", {}).get("figures", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures that tests told."""
    if figures.LINES:
        terminalreporter.section("figures")
        for line in figures.LINES:
            terminalreporter.line(line)
