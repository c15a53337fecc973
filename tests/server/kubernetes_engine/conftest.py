"""The Kubernetes engine over an API server whose answers a test sets, and a clock that a test moves."""

from __future__ import annotations

import pytest

from server.engines.kubernetes import KubernetesEngine
from tests.server.kubernetes_engine.api_server import Clock, FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(cluster: FakeCluster, clock: Clock) -> KubernetesEngine:
    return KubernetesEngine(cluster, clock)
