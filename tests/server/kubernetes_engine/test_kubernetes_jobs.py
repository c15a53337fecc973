"""How the Kubernetes engine starts, sees, shows and stops Jobs, by what the API server answers."""

from __future__ import annotations

from typing import Any

import pytest

from server.engines.base import EngineError, NoRoom, Phase, Stage, needs
from server.engines.cluster import ApiError, Object
from server.engines.kubernetes import SETTLE_SECONDS, KubernetesEngine
from server.settings.manifests import BadManifest
from tests.server.given import HandClock
from tests.server.kubernetes_engine.api_server import FREE, JOB, NAME, FakeCluster, job, pod


@pytest.mark.parametrize(
    ("status", "pods", "phase", "reason"),
    [
        ({"active": 1, "ready": 1}, [], Phase.RUNNING, ""),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, [], Phase.SUCCEEDED, ""),
        ({"conditions": [{"type": "Failed", "status": "False"}], "active": 1, "ready": 1}, [], Phase.RUNNING, ""),
        (
            {"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]},
            [],
            Phase.FAILED,
            "it ran into its deadline",
        ),
        (
            {"conditions": [{"type": "Failed", "status": "True", "message": "too bad"}]},
            [
                pod(
                    containerStatuses=[
                        {
                            "state": {
                                "terminated": {"reason": "OOMKilled", "exitCode": 137, "message": "a\nlast words\n"}
                            }
                        }
                    ]
                )
            ],
            Phase.FAILED,
            "OOMKilled, exit code 137: last words",
        ),
        ({"conditions": [{"type": "Failed", "status": "True", "message": "too bad"}]}, [], Phase.FAILED, "too bad"),
        (
            {"active": 1},
            [pod(containerStatuses=[{"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}])],
            Phase.RUNNING,
            "ErrImagePull: no such image",
        ),
        (
            {"active": 1},
            [pod(containerStatuses=[{"state": {"waiting": {"reason": "ContainerCreating"}}}])],
            Phase.RUNNING,
            "",
        ),
        (
            {"active": 1},
            [
                pod(
                    conditions=[
                        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2"}
                    ]
                )
            ],
            Phase.RUNNING,
            "Unschedulable: 0/2",
        ),
    ],
)
def test_a_job_as_starting_sees_it(
    engine: KubernetesEngine,
    cluster: FakeCluster,
    clock: HandClock,
    status: dict[str, Any],
    pods: list[Object],
    phase: Phase,
    reason: str,
) -> None:
    cluster.answers |= {"jobs": [job(**status)], "pods": pods}
    engine.jobs(FREE)
    clock.now += SETTLE_SECONDS
    (found,) = engine.jobs(FREE)
    assert (found.name, found.tier, found.phase) == (NAME, "free", phase)
    assert found.reason.startswith(reason)
    assert bool(found.reason) is bool(reason)
    assert found.needs == (needs(JOB) if phase is Phase.RUNNING else {})


def test_a_job_that_says_nothing_of_what_it_needs_is_seen(engine: KubernetesEngine, cluster: FakeCluster) -> None:
    """Somebody has created it by hand, with our labels."""
    found = {**job(active=1, ready=1), "spec": {"template": {"spec": {"containers": [{"name": "main"}]}}}}
    cluster.answers |= {"jobs": [found], "pods": []}
    assert [one.needs for one in engine.jobs(FREE)] == [{"pods": "1"}]


@pytest.mark.parametrize(
    ("message", "phase"),
    [
        ('pods "x" is forbidden: exceeded quota: tierserve, requested: pods=1', Phase.OVER_QUOTA),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', Phase.RUNNING),
    ],
)
def test_a_job_that_got_no_pod_says_why(
    engine: KubernetesEngine, cluster: FakeCluster, clock: HandClock, message: str, phase: Phase
) -> None:
    cluster.answers |= {"jobs": [job()], "events": [{"message": message, "lastTimestamp": "2026-01-01T00:00:00Z"}]}
    (found,) = engine.jobs(FREE)
    assert (found.phase, found.reason) == (Phase.RUNNING, ""), "a new Job is left alone"
    clock.now += SETTLE_SECONDS
    (found,) = engine.jobs(FREE)
    assert (found.phase, found.reason) == (phase, message)


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (403, "exceeded quota: tierserve", NoRoom),
        (403, "jobs.batch is forbidden", BadManifest),
        (404, 'namespaces "tierserve-free" not found', BadManifest),
        (422, "spec.template: Invalid value", BadManifest),
        (400, "strict decoding error", BadManifest),
        (500, "etcd is slow", ApiError),
        (429, "too many requests", ApiError),
    ],
)
def test_a_refused_job(
    engine: KubernetesEngine, cluster: FakeCluster, status: int, message: str, error: type[EngineError]
) -> None:
    cluster.refusal = ApiError(status, message)
    with pytest.raises(error, match=message):
        engine.start(FREE, JOB)


def test_a_job_that_is_there_already_is_started(engine: KubernetesEngine, cluster: FakeCluster) -> None:
    cluster.refusal = ApiError(409, "already exists")
    engine.start(FREE, JOB)


def test_checking_is_a_dry_run_that_a_full_quota_does_not_fail(engine: KubernetesEngine, cluster: FakeCluster) -> None:
    engine.check(JOB)
    assert cluster.created == [("tierserve-free", True)]
    cluster.refusal = ApiError(403, "exceeded quota: jobs")
    engine.check(JOB)


def test_a_silent_job_goes_with_its_pod_by_force(engine: KubernetesEngine, cluster: FakeCluster) -> None:
    cluster.answers = {"jobs": [job(active=1)], "pods": [pod(phase="Running")]}
    engine.jobs(FREE)
    engine.stop(NAME, at_once=True)
    assert cluster.deleted == [("tierserve-free", NAME)]
    assert cluster.forced == [("tierserve-free", f"{NAME}-x")]


@pytest.mark.parametrize("status", [403, 404])
def test_stopping_what_is_gone_or_no_longer_ours_is_success(
    engine: KubernetesEngine, cluster: FakeCluster, status: int
) -> None:
    engine.start(FREE, JOB)
    cluster.refusal = ApiError(status, "no")
    engine.stop(NAME)
    engine.stop(NAME)
    assert cluster.deleted == [("tierserve-free", NAME)]


def test_stopping_what_could_not_be_stopped_is_tried_again(engine: KubernetesEngine, cluster: FakeCluster) -> None:
    engine.start(FREE, JOB)
    cluster.refusal = ApiError(500, "etcd is slow")
    with pytest.raises(ApiError):
        engine.stop(NAME)
    cluster.refusal = None
    engine.stop(NAME)
    assert cluster.deleted == 2 * [("tierserve-free", NAME)]


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ({"phase": "Running", "podIP": "10.0.0.9", "containerStatuses": [{"state": {"running": {}}}]}, "Running"),
        ({"phase": "Pending"}, "Pending"),
        (
            {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
            "ImagePullBackOff",
        ),
        (
            {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"reason": "Completed"}}}]},
            "Completed",
        ),
        ({"phase": "Failed", "reason": "Evicted"}, "Evicted"),
    ],
)
def test_pods_are_shown_as_kubectl_shows_them(
    engine: KubernetesEngine, cluster: FakeCluster, status: dict[str, Any], shown: str
) -> None:
    cluster.answers["pods"] = [pod(**status)]
    workers, server = engine.pods([FREE])
    assert workers == server
    assert (workers.node, workers.namespace, workers.status) == ("n1", "tierserve-free", shown)


@pytest.mark.parametrize(
    ("node", "status", "stage"),
    [
        ("", {"phase": "Pending"}, Stage.PENDING),
        ("n1", {"phase": "Pending"}, Stage.SCHEDULED),
        (
            "n1",
            {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]},
            Stage.PULLING,
        ),
        ("n1", {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}, Stage.LOADING),
        ("n1", {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"reason": "Completed"}}}]}, None),
        ("n1", {"phase": "Failed", "reason": "Evicted"}, None),
    ],
)
def test_the_pod_of_a_job_tells_how_far_its_start_has_come(
    engine: KubernetesEngine, cluster: FakeCluster, node: str, status: dict[str, Any], stage: Stage | None
) -> None:
    own, worker = pod(phase="Running"), pod(**status)
    worker["metadata"]["labels"] = {"batch.kubernetes.io/job-name": NAME}
    worker["spec"]["nodeName"] = node
    cluster.namespace = ""
    cluster.answers["pods"] = [own, worker]
    shown = engine.pods([FREE])
    assert [(one.job, one.stage) for one in shown] == [(None, None), (NAME, stage)]


def test_a_pod_tells_what_keeps_it_from_running(engine: KubernetesEngine, cluster: FakeCluster) -> None:
    waiting = {"reason": "ErrImagePull", "message": "no such image"}
    cluster.answers["pods"] = [pod(phase="Pending", containerStatuses=[{"state": {"waiting": waiting}}])]
    assert engine.pods([FREE])[0].reason == "ErrImagePull: no such image"


def test_the_log_of_a_job_is_shown_by_kubectl(engine: KubernetesEngine) -> None:
    assert engine.log_command(FREE, NAME) == f"kubectl --namespace {FREE.namespace} logs job/{NAME}"
