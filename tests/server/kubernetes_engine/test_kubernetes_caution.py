"""What the engine says of a namespace that does not protect itself."""

from __future__ import annotations

import pytest

from server.engines.cluster import ApiError
from server.engines.kubernetes import CAUTION_SECONDS, ENFORCE, KubernetesEngine
from tests.server.given import HandClock
from tests.server.kubernetes_engine.api_server import FREE, FakeCluster


def test_a_namespace_that_enforces_restricted_needs_no_caution(engine: KubernetesEngine, cluster: FakeCluster) -> None:
    cluster.namespace_labels = {ENFORCE: "restricted"}
    assert engine.caution(FREE) == ""


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {ENFORCE: "baseline"},
        {ENFORCE: "privileged"},
        {"pod-security.kubernetes.io/warn": "restricted"},
        {ENFORCE: ""},
    ],
)
def test_every_other_namespace_is_told_with_the_command_that_mends_it(
    engine: KubernetesEngine, cluster: FakeCluster, labels: dict[str, str]
) -> None:
    cluster.namespace_labels = labels
    said = engine.caution(FREE)
    assert f"in the namespace tierserve-free, but {labels.get(ENFORCE) or 'nothing'}: kubectl label namespace" in said
    assert said.endswith("tierserve-free pod-security.kubernetes.io/enforce=restricted --overwrite")


@pytest.mark.parametrize("status", [403, 404])
def test_a_namespace_that_cannot_be_read_is_told(engine: KubernetesEngine, cluster: FakeCluster, status: int) -> None:
    cluster.refusal = ApiError(status, "no right")
    assert engine.caution(FREE) == (
        "Pod Security is not known, because the namespace tierserve-free cannot be read: no right"
    )


def test_a_namespace_is_looked_at_once_a_minute(
    engine: KubernetesEngine, cluster: FakeCluster, clock: HandClock
) -> None:
    for _ in range(9):
        assert engine.caution(FREE) != ""
    assert cluster.labels_asked == 1
    cluster.namespace_labels = {ENFORCE: "restricted"}
    clock.now += CAUTION_SECONDS
    assert engine.caution(FREE) == ""


def test_an_api_server_in_trouble_changes_nothing(
    engine: KubernetesEngine, cluster: FakeCluster, clock: HandClock
) -> None:
    before = engine.caution(FREE)
    cluster.refusal = ApiError(503, "trouble")
    clock.now += CAUTION_SECONDS
    assert engine.caution(FREE) == before
