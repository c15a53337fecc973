"""How many Jobs the Kubernetes engine finds room for, by what quotas and limits the API server shows it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.engines.cluster import Object
from server.engines.kubernetes import KubernetesEngine
from server.settings.quantity import Usage
from server.settings.render import Renderer
from tests.server.kubernetes_engine.api_server import FREE, JOB, FakeCluster, job, quota


@pytest.mark.parametrize(
    ("quotas", "jobs", "reason"),
    [
        ([], 1000, ""),
        ([quota({"requests.cpu": "2"}, {"requests.cpu": "0"})], 2, "quota cpu: 0 of 2 used, a worker takes 0.9"),
        ([quota({"cpu": "2"}, {"cpu": "900m"})], 1, "quota cpu: 0.9 of 2 used, a worker takes 0.9"),
        ([quota({"limits.cpu": "2"}, {"limits.cpu": "1800m"})], 0, "quota cpu: 1.8 of 2 used, a worker takes 0.9"),
        ([quota({"pods": "3"}, {"pods": "5"})], 0, "quota pods: 5 of 3 used, a worker takes 1"),
        ([quota({"count/jobs.batch": "4"}, {"count/jobs.batch": "4"})], 0, "quota count/jobs.batch: 4 of 4 used"),
        ([quota({"requests.ephemeral-storage": "1Gi"}, {"requests.ephemeral-storage": "0"})], 1, "ephemeral-storage"),
        ([quota({"requests.nvidia.com/gpu": "0"}, {"requests.nvidia.com/gpu": "0"})], 1000, ""),
        # A quota that is not counted yet is full, because the API server refuses then too.
        ([quota({"pods": "9"}, {}, {})], 0, "quota pods: 9 of 9 used"),
        # This quota was raised, but the API server still counts with the old value.
        ([quota({"pods": "9"}, {"pods": "1"}, {"pods": "1"})], 0, "quota pods: 1 of 1 used"),
        ([quota({"pods": "5"}, {"pods": "0"}), quota({"pods": "1"}, {"pods": "0"})], 1, "quota pods: 0 of 1 used"),
        ([quota({"pods": "0"}, {"pods": "0"}, scopes=["Terminating"])], 1000, ""),
        ([quota({"pods": "0"}, {"pods": "0"}, scopes=["BestEffort"])], 1000, ""),
        ([quota({"pods": "0"}, {"pods": "0"}, scopes=["NotTerminating"])], 0, "quota pods: 0 of 0 used"),
    ],
)
def test_room_is_what_every_quota_leaves(
    engine: KubernetesEngine, cluster: FakeCluster, quotas: list[Object], jobs: int, reason: str
) -> None:
    cluster.answers["quotas"] = quotas
    room = engine.room(FREE, JOB)
    assert room.jobs == jobs
    assert reason in room.reason


@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "amd.com/gpu"])
def test_gpus_are_counted_by_their_name_in_kubernetes_and_told_of_by_ours(
    engine: KubernetesEngine, cluster: FakeCluster, resource: str
) -> None:
    tier = replace(FREE, job=replace(FREE.job, gpus=2, gpu_resource=resource))
    wanted = Renderer().job(tier, "abc", "http://server:8081")
    cluster.answers["quotas"] = [quota({f"requests.{resource}": "5"}, {f"requests.{resource}": "2"})]
    room = engine.room(tier, wanted)
    assert (room.jobs, room.quota) == (1, {"gpus": Usage(5, 2)})
    engine.start(tier, wanted)  # it has no pod yet
    room = engine.room(tier, wanted)
    assert (room.jobs, room.reason) == (0, "quota gpus: 4 of 5 used, a worker takes 2")
    cluster.answers["quotas"] = [quota({"requests.example.com/gpu": "0"}, {"requests.example.com/gpu": "0"})]
    assert engine.room(tier, wanted).jobs == 1000


@pytest.mark.parametrize(
    ("operator", "values", "concerned"),
    [("In", ["gold"], False), ("NotIn", ["gold"], True), ("Exists", [], False), ("DoesNotExist", [], True)],
)
def test_a_quota_of_another_priority_class_is_none_of_ours(
    engine: KubernetesEngine, cluster: FakeCluster, operator: str, values: list[str], concerned: bool
) -> None:
    expression = {"scopeName": "PriorityClass", "operator": operator, "values": values}
    cluster.answers["quotas"] = [quota({"pods": "0"}, {"pods": "0"}, scopeSelector={"matchExpressions": [expression]})]
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
    engine: KubernetesEngine, cluster: FakeCluster, item: Object, reason: str
) -> None:
    cluster.answers["limits"] = [{"metadata": {"name": "theirs"}, "spec": {"limits": [item]}}]
    room = engine.room(FREE, JOB)
    assert (room.jobs == 0) is bool(reason)
    assert reason in room.reason


def test_a_job_without_a_pod_is_counted_before_the_quota_counts_it(
    engine: KubernetesEngine, cluster: FakeCluster
) -> None:
    cluster.answers["quotas"] = [quota({"requests.cpu": "2", "count/jobs.batch": "9"}, {"requests.cpu": "0"})]
    engine.start(FREE, JOB)
    assert engine.room(FREE, JOB).quota["cpu"].used == 0.9
    cluster.answers["jobs"] = [job()]
    engine.jobs(FREE)
    assert engine.room(FREE, JOB).quota["cpu"].used == 0.9
    cluster.answers["jobs"] = [job(active=1)]
    engine.jobs(FREE)
    assert engine.room(FREE, JOB).quota["cpu"].used == 0
    cluster.answers["jobs"] = [job()]  # its pod has ended, so the quota no longer counts it
    engine.jobs(FREE)
    assert engine.room(FREE, JOB).quota["cpu"].used == 0
