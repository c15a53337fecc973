"""The Kubernetes engine over an API server whose answers a test sets, and a clock that a test moves."""

from __future__ import annotations

import pytest

from server.engines.kubernetes import KubernetesEngine
from tests.server.given import HandClock
from tests.server.kubernetes_engine.api_server import FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def clock() -> HandClock:
    return HandClock(0.0)


@pytest.fixture
def engine(cluster: FakeCluster, clock: HandClock) -> KubernetesEngine:
    return KubernetesEngine(cluster, clock)
