"""What the Kubernetes engine makes of what an API server says; the real one is asked in tests/e2e."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from server.engines.base import EngineError, NoRoom, Phase
from server.engines.cluster import ApiError, Cluster, Object
from server.engines.kubernetes import SETTLE_SECONDS, KubernetesEngine
from server.settings.manifests import BadManifest, Manifest
from server.settings.render import Renderer
from server.settings.values import load

FREE = load().tiers["free"]
JOB = Renderer().job(FREE, "abc", "http://server:8081")
NAME = JOB["metadata"]["name"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Told(Cluster):
    """An API server's answers, as a test sets them; what is created and deleted is kept."""

    def __init__(self) -> None:
        self.namespace = "tierserve"
        self.said: dict[str, list[Object]] = {}
        self.refusal: ApiError | None = None
        self.created: list[tuple[str, bool]] = []
        self.deleted: list[tuple[str, str]] = []
        self.forced: list[tuple[str, str]] = []

    def _list(self, method: Any, *arguments: Any, **options: Any) -> list[Object]:
        raise AssertionError("every list is answered below")

    def jobs(self, namespace: str, labels: str) -> list[Object]:
        return self.said.get("jobs", [])

    def pods(self, namespace: str, labels: str) -> list[Object]:
        return self.said.get("pods", [])

    def quotas(self, namespace: str) -> list[Object]:
        return self.said.get("quotas", [])

    def limit_ranges(self, namespace: str) -> list[Object]:
        return self.said.get("limits", [])

    def events(self, namespace: str, job: str, reason: str) -> list[Object]:
        return self.said.get("events", [])

    def create_job(self, namespace: str, manifest: Manifest, *, dry_run: bool = False) -> None:
        if self.refusal:
            raise self.refusal
        self.created.append((namespace, dry_run))

    def delete_job(self, namespace: str, name: str) -> None:
        self.deleted.append((namespace, name))
        if self.refusal:
            raise self.refusal

    def delete_pod(self, namespace: str, name: str) -> None:
        self.forced.append((namespace, name))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(told: Told, clock: Clock) -> KubernetesEngine:
    return KubernetesEngine(told, clock)


def quota(
    hard: Mapping[str, str], used: Mapping[str, str], counted: Mapping[str, str] | None = None, **spec: Any
) -> Object:
    return {"spec": {"hard": hard, **spec}, "status": {"hard": hard if counted is None else counted, "used": used}}


def job(**status: Any) -> Object:
    return {"metadata": {"name": NAME}, "status": status}


def pod(**status: Any) -> Object:
    return {
        "metadata": {"name": f"{NAME}-x", "namespace": "tierserve-free"},
        "spec": {"nodeName": "n1"},
        "status": status,
    }


@pytest.mark.parametrize(
    ("quotas", "jobs", "reason"),
    [
        ([], 1000, ""),
        ([quota({"requests.cpu": "2"}, {"requests.cpu": "0"})], 2, "quota cpu: 0 of 2 used, a worker takes 0.9"),
        ([quota({"cpu": "2"}, {"cpu": "900m"})], 1, "quota cpu: 0.9 of 2 used, a worker takes 0.9"),
        ([quota({"limits.cpu": "2"}, {"limits.cpu": "1800m"})], 0, "quota cpu: 1.8 of 2 used, a worker takes 0.9"),
        ([quota({"pods": "3"}, {"pods": "5"})], 0, "quota pods: 5 of 3 used, a worker takes 1"),
        ([quota({"count/jobs.batch": "4"}, {"count/jobs.batch": "4"})], 0, "quota count/jobs.batch: 4 of 4 used"),
        ([quota({"requests.ephemeral-storage": "1Gi"}, {"requests.ephemeral-storage": "0"})], 8, "ephemeral-storage"),
        ([quota({"requests.nvidia.com/gpu": "0"}, {"requests.nvidia.com/gpu": "0"})], 1000, ""),
        ([quota({"pods": "9"}, {}, {})], 0, "quota pods: 9 of 9 used"),  # not counted yet: the API server refuses too
        ([quota({"pods": "9"}, {"pods": "1"}, {"pods": "1"})], 0, "quota pods: 1 of 1 used"),  # raised, not yet acting
        ([quota({"pods": "5"}, {"pods": "0"}), quota({"pods": "1"}, {"pods": "0"})], 1, "quota pods: 0 of 1 used"),
        ([quota({"pods": "0"}, {"pods": "0"}, scopes=["Terminating"])], 1000, ""),
        ([quota({"pods": "0"}, {"pods": "0"}, scopes=["BestEffort"])], 1000, ""),
        ([quota({"pods": "0"}, {"pods": "0"}, scopes=["NotTerminating"])], 0, "quota pods: 0 of 0 used"),
    ],
)
def test_room_is_what_every_quota_leaves(
    engine: KubernetesEngine, told: Told, quotas: list[Object], jobs: int, reason: str
) -> None:
    told.said["quotas"] = quotas
    room = engine.room(FREE, JOB)
    assert room.jobs == jobs
    assert reason in room.reason


@pytest.mark.parametrize(
    ("operator", "values", "concerned"),
    [("In", ["gold"], False), ("NotIn", ["gold"], True), ("Exists", [], False), ("DoesNotExist", [], True)],
)
def test_a_quota_of_another_priority_class_is_none_of_ours(
    engine: KubernetesEngine, told: Told, operator: str, values: list[str], concerned: bool
) -> None:
    expression = {"scopeName": "PriorityClass", "operator": operator, "values": values}
    told.said["quotas"] = [quota({"pods": "0"}, {"pods": "0"}, scopeSelector={"matchExpressions": [expression]})]
    assert (engine.room(FREE, JOB).jobs == 0) is concerned


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"type": "Container", "max": {"cpu": "500m"}}, "allows at most 500m of cpu, a worker takes 900m"),
        ({"type": "Pod", "min": {"memory": "1Gi"}}, "allows at least 1Gi of memory, a worker takes 512Mi"),
        ({"type": "PersistentVolumeClaim", "max": {"storage": "1"}}, ""),
        ({"type": "Container", "max": {"cpu": "2"}, "default": {"cpu": "1"}}, ""),
    ],
)
def test_no_job_is_started_that_a_limit_range_would_refuse(
    engine: KubernetesEngine, told: Told, item: Object, reason: str
) -> None:
    told.said["limits"] = [{"metadata": {"name": "theirs"}, "spec": {"limits": [item]}}]
    room = engine.room(FREE, JOB)
    assert (room.jobs == 0) is bool(reason)
    assert reason in room.reason


def test_a_job_without_a_pod_is_counted_before_the_quota_counts_it(engine: KubernetesEngine, told: Told) -> None:
    told.said["quotas"] = [quota({"requests.cpu": "2", "count/jobs.batch": "9"}, {"requests.cpu": "0"})]
    engine.start(FREE, JOB)
    assert engine.room(FREE, JOB).quota["cpu"].used == 0.9
    told.said["jobs"] = [job()]
    engine.jobs(FREE)
    assert engine.room(FREE, JOB).quota["cpu"].used == 0.9
    told.said["jobs"] = [job(active=1)]
    engine.jobs(FREE)
    assert engine.room(FREE, JOB).quota["cpu"].used == 0
    told.said["jobs"] = [job()]  # its pod has ended, and the quota knows
    engine.jobs(FREE)
    assert engine.room(FREE, JOB).quota["cpu"].used == 0


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
    told: Told,
    clock: Clock,
    status: dict[str, Any],
    pods: list[Object],
    phase: Phase,
    reason: str,
) -> None:
    told.said |= {"jobs": [job(**status)], "pods": pods}
    engine.jobs(FREE)
    clock.now += SETTLE_SECONDS
    (found,) = engine.jobs(FREE)
    assert (found.name, found.tier, found.phase) == (NAME, "free", phase)
    assert found.reason.startswith(reason)
    assert bool(found.reason) is bool(reason)


@pytest.mark.parametrize(
    ("message", "phase"),
    [
        ('pods "x" is forbidden: exceeded quota: tierserve, requested: pods=1', Phase.OVER_QUOTA),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', Phase.RUNNING),
    ],
)
def test_a_job_that_got_no_pod_says_why(
    engine: KubernetesEngine, told: Told, clock: Clock, message: str, phase: Phase
) -> None:
    told.said |= {"jobs": [job()], "events": [{"message": message, "lastTimestamp": "2026-01-01T00:00:00Z"}]}
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
    engine: KubernetesEngine, told: Told, status: int, message: str, error: type[EngineError]
) -> None:
    told.refusal = ApiError(status, message)
    with pytest.raises(error, match=message):
        engine.start(FREE, JOB)


def test_a_job_that_is_there_already_is_started(engine: KubernetesEngine, told: Told) -> None:
    told.refusal = ApiError(409, "already exists")
    engine.start(FREE, JOB)


def test_checking_is_a_dry_run_that_a_full_quota_does_not_fail(engine: KubernetesEngine, told: Told) -> None:
    engine.check(JOB)
    assert told.created == [("tierserve-free", True)]
    told.refusal = ApiError(403, "exceeded quota: jobs")
    engine.check(JOB)


def test_a_silent_job_goes_with_its_pod_by_force(engine: KubernetesEngine, told: Told) -> None:
    told.said = {"jobs": [job(active=1)], "pods": [pod(phase="Running")]}
    engine.jobs(FREE)
    engine.stop(NAME, at_once=True)
    assert told.deleted == [("tierserve-free", NAME)]
    assert told.forced == [("tierserve-free", f"{NAME}-x")]


@pytest.mark.parametrize("status", [403, 404])
def test_stopping_what_is_gone_or_no_longer_ours_is_success(engine: KubernetesEngine, told: Told, status: int) -> None:
    engine.start(FREE, JOB)
    told.refusal = ApiError(status, "no")
    engine.stop(NAME)
    engine.stop(NAME)
    assert told.deleted == [("tierserve-free", NAME)]


def test_stopping_what_could_not_be_stopped_is_tried_again(engine: KubernetesEngine, told: Told) -> None:
    engine.start(FREE, JOB)
    told.refusal = ApiError(500, "etcd is slow")
    with pytest.raises(ApiError):
        engine.stop(NAME)
    told.refusal = None
    engine.stop(NAME)
    assert told.deleted == 2 * [("tierserve-free", NAME)]


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
    engine: KubernetesEngine, told: Told, status: dict[str, Any], shown: str
) -> None:
    told.said["pods"] = [pod(**status)]
    workers, server = engine.pods([FREE])
    assert workers == server
    assert (workers.node, workers.namespace, workers.status) == ("n1", "tierserve-free", shown)
