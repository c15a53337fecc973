"""The cluster of eksctl-config.yaml can run what the values of chart/ci/eks-values.yaml describe."""

from __future__ import annotations

import copy
import re
from typing import Any

import kubernetes_validate
import pytest

from server import shipped
from server.settings import documents, merging
from server.settings import values as config
from server.settings.documents import Document
from server.settings.render import Renderer
from tests.eks.eks_rules import (
    CHECKS,
    CLUSTER,
    GPU_FILE,
    GUIDE,
    VALUES,
    VALUES_FILE,
    Check,
    capacious,
    groups_of,
    identified,
    jobs_per_node,
    merged,
    networked,
    placed,
    pullable,
    scalable,
    tolerates,
    with_gpus,
    zoned,
)


def changed(value: Any, path: str, new: Any) -> Any:
    """A copy of ``value`` with ``new`` at ``path``. None removes what is there."""
    whole = copy.deepcopy(value)
    *keys, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    holder = whole
    for key in keys:
        holder = holder[key]
    if new is None:
        del holder[last]
    else:
        holder[last] = new
    return whole


def test_the_cluster_is_what_the_schema_says() -> None:
    assert documents.validate(CLUSTER, "eksctl-config") == []


@pytest.mark.parametrize(
    ("path", "new", "finding"),
    [
        ("metadata.version", 1.36, "/metadata/version: must be text"),
        ("metadata.tags.project", None, '"project" is missing'),
        ("nodeGroups", [], 'unknown key "nodeGroups"; did you mean "managedNodeGroups"?'),
        ("managedNodeGroups.0.maxSize", None, '/managedNodeGroups/0: "maxSize" is missing'),
        ("managedNodeGroups.1.volumeEncrypted", False, "/managedNodeGroups/1/volumeEncrypted: must be true"),
        ("managedNodeGroups.1.volumeEncrypted", None, '"volumeEncrypted" is missing'),
        ("managedNodeGroups.1.volumeType", "gp2", 'must be "gp3"'),
        ("managedNodeGroups.2.privateNetworking", False, "/managedNodeGroups/2/privateNetworking: must be true"),
        ("managedNodeGroups.2.privateNetworking", None, '"privateNetworking" is missing'),
        ("managedNodeGroups.2.disablePodIMDS", None, '"disablePodIMDS" is missing'),
        ("managedNodeGroups.2.disableIMDSv1", False, "/managedNodeGroups/2/disableIMDSv1: must be true"),
        ("managedNodeGroups.0.updateConfig", {}, "/managedNodeGroups/0/updateConfig"),
        ("managedNodeGroups.1.taints.0.effect", "noschedule", "/managedNodeGroups/1/taints/0/effect: must be"),
        ("managedNodeGroups.1.taint", [], 'did you mean "taints"?'),
        ("managedNodeGroups.0.instanceTypes", [], "/managedNodeGroups/0/instanceTypes"),
        ("vpc.publicAccessCIDRs", ["0.0.0.0/0"], "/vpc/publicAccessCIDRs/0"),
        ("vpc.clusterEndpoints.privateAccess", False, "/vpc/clusterEndpoints/privateAccess: must be true"),
        ("cloudWatch.clusterLogging.enableTypes", ["api", "audit"], "/cloudWatch/clusterLogging/enableTypes"),
        ("secretsEncryption", {"keyARN": "alias/mine"}, "/secretsEncryption/keyARN: must match"),
        ("addons.1.name", "vpc-cmi", "/addons/1/name: must be"),
        (
            "iam.podIdentityAssociations.0.permissionPolicy.Statement.0.Action",
            ["autoscaling:*"],
            "/iam/podIdentityAssociations/0/permissionPolicy/Statement/0/Action/0: must match",
        ),
    ],
)
def test_the_schema_refuses(path: str, new: Any, finding: str) -> None:
    found = documents.validate(Document(changed(CLUSTER.value, path, new), "cluster", {}), "eksctl-config")
    assert any(finding in str(each) for each in found), found


def test_a_key_of_ones_own_for_secrets_is_allowed() -> None:
    own = {"keyARN": "arn:aws:kms:us-east-2:111122223333:key/0d1f2a3b-0000-4000-8000-000000000000"}
    cluster = changed(CLUSTER.value, "secretsEncryption", own)
    assert documents.validate(Document(cluster, "cluster", {}), "eksctl-config") == []


def test_the_values_are_what_the_charts_schema_says() -> None:
    whole = merging.over(documents.read(shipped.DEFAULT_VALUES), documents.read(VALUES_FILE))
    assert documents.validate(whole, "values") == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_cluster_can_run_the_chart(check: Check) -> None:
    assert list(check(CLUSTER.value, VALUES)) == []


TAINT_OF_FREE = {"key": "tier", "operator": "Equal", "value": "free", "effect": "NoSchedule"}
ONE_MORE = {
    "namespace": "tierserve-free",
    "serviceAccountName": "tierserve-worker",
    "permissionPolicy": {"Statement": []},
}


@pytest.mark.parametrize(
    ("check", "path", "new", "finding"),
    [
        (placed, "managedNodeGroups.2.taints", None, "the taints of free let premium in"),
        (placed, "managedNodeGroups.2.taints", None, "the taints of free let an add-on in"),
        (placed, "managedNodeGroups.2.taints.0.effect", "PreferNoSchedule", "the taints of free let server in"),
        (placed, "managedNodeGroups.2.taints.0.value", "fre", "free does not bear the taints of free"),
        (placed, "managedNodeGroups.1.labels.tier", "premum", "premium selects 0 node groups"),
        (placed, "managedNodeGroups.0.labels.tier", "premium", "premium selects 2 node groups"),
        (placed, "managedNodeGroups.0.taints", [TAINT_OF_FREE], "system keeps the add-ons out"),
        (
            capacious,
            "managedNodeGroups.1.instanceTypes",
            ["c6i.large"],
            "premium: the quota allows 4 Jobs, premium holds 2",
        ),
        (capacious, "managedNodeGroups.1.instanceTypes", ["c6i.large"], "premium: the quota's cpu is more"),
        (capacious, "managedNodeGroups.2.instanceTypes", ["x9.huge"], "nothing is known of ['x9.huge']"),
        (capacious, "managedNodeGroups.2.instanceTypes", ["c6a.xlarge"], "c6a.xlarge has no VNNI"),
        (scalable, "managedNodeGroups.2.instanceTypes", ["c6i.xlarge"], "spot needs at least four"),
        (
            scalable,
            "managedNodeGroups.2.instanceTypes",
            ["c6i.xlarge", "c7i.xlarge", "c7a.xlarge", "m7i.xlarge"],
            "spot needs at least four types of one size",
        ),
        (scalable, "managedNodeGroups.2.propagateASGTags", None, "free: the autoscaler sees neither"),
        (scalable, "managedNodeGroups.1.maxSize", 0, "premium: not minSize <= desiredCapacity <= maxSize"),
        (scalable, "managedNodeGroups.1.updateConfig.maxUnavailable", 3, "premium: maxUnavailable"),
        (scalable, "iam.podIdentityAssociations", [], "free: no autoscaler may make it grow"),
        (zoned, "metadata.region", "eu-central-1", "are not in eu-central-1"),
        (
            zoned,
            "managedNodeGroups.0.availabilityZones",
            ["us-east-2a", "us-east-2d"],
            "zones that the cluster has not",
        ),
        (zoned, "managedNodeGroups.0.availabilityZones", None, "two zones and a node in each"),
        (zoned, "managedNodeGroups.0.minSize", 1, "two zones and a node in each"),
        (zoned, "managedNodeGroups.0.spot", True, "the server's nodes are taken away"),
        (identified, "iam.podIdentityAssociations", [ONE_MORE], "tierserve-free/tierserve-worker has an AWS role"),
        (identified, "metadata.name", "other", "SetDesiredCapacity"),
        (
            identified,
            "iam.podIdentityAssociations.0.permissionPolicy.Statement.1.Condition",
            None,
            "'autoscaling:TerminateInstanceInAutoScalingGroup'] beyond the cluster",
        ),
        (identified, "addons.4.useDefaultPodIdentityAssociations", None, "add-ons with AWS permissions: ['vpc-cni']"),
        (identified, "addons.0", None, "no agent gives out pod identities"),
        (networked, "addons.1.configurationValues", '{"enableNetworkPolicy": "false"}', "are not enforced"),
        (networked, "addons.1.configurationValues", '{"enableNetworkPolicy": "true"}', "is not logged"),
        (networked, "addons.1", None, "network policies are not enforced"),
        (networked, "addons.3", None, "missing add-ons: ['coredns']"),
        (networked, "vpc.cidr", "10.0.0.0/8", "overlap"),
        (networked, "vpc.cidr", "172.16.0.0/16", "cannot reach the API server at 172.16.0.0/16"),
        (networked, "kubernetesNetworkConfig.serviceIPv4CIDR", "172.20.0.0/16", "at 172.20.0.1/32"),
        (pullable, "metadata.region", "eu-central-1", "is not in 111122223333.dkr.ecr.eu-central-1.amazonaws.com"),
    ],
)
def test_a_broken_cluster_is_found(check: Check, path: str, new: Any, finding: str) -> None:
    found = list(check(changed(CLUSTER.value, path, new), VALUES))
    assert any(finding in each for each in found), found


@pytest.mark.parametrize(
    ("check", "path", "new", "finding"),
    [
        (placed, "tiers.free.job.nodeSelector", {}, "free selects 0 node groups"),
        (placed, "tiers.free.job.nodeSelector", {"teir": "free"}, "free selects 0 node groups"),
        (placed, "tiers.free.job.nodeSelector.tier", "premium", "free does not bear the taints of premium"),
        (placed, "tiers.free.job.tolerations", [], "free does not bear the taints of free"),
        (placed, "tiers.free.job.tolerations.0.effect", "NoExecute", "free does not bear the taints of free"),
        (placed, "tiers.premium.job.tolerations", [{"operator": "Exists"}], "the taints of free let premium in"),
        (placed, "tiers.premium.job.tolerations", [TAINT_OF_FREE], "the taints of free let premium in"),
        (placed, "pod.tolerations", [{"key": "tier", "operator": "Exists"}], "the taints of premium let server in"),
        (placed, "pod.nodeSelector", {"role": "sytem"}, "server selects 0 node groups"),
        (placed, "tiers.more", VALUES["tiers"]["free"], "more shares free with free"),
        (capacious, "tiers.free.quota", {"cpu": "9", "pods": 9}, "free: the quota allows 9 Jobs, free holds 8"),
        (capacious, "tiers.free.quota.memory", "64Gi", "free: the quota's memory is more than free can have"),
        (capacious, "tiers.free.job.cpu", "4", "free: not one Job fits a node of free"),
        (capacious, "tiers.free.job.memory", "7Gi", "free: not one Job fits a node of free"),
        (capacious, "tiers.free.waits.startSeconds", 60, "free: its Jobs are replaced before a node"),
        (networked, "networkPolicy.apiServer", [], "cannot reach the API server at 10.100.0.1/32"),
        (networked, "service.port", 80, "the VPC CNI wants a service's port to be the container's"),
        (pullable, "worker.image.repository", "tierserve-worker", "worker: tierserve-worker is not in"),
    ],
)
def test_broken_values_are_found(check: Check, path: str, new: Any, finding: str) -> None:
    values = changed(VALUES, path, new)
    found = list(check(CLUSTER.value, values))
    assert any(finding in each for each in found), found


def test_four_jobs_fill_a_node_of_four_cpus() -> None:
    premium = CLUSTER.value["managedNodeGroups"][1]
    job = VALUES["tiers"]["premium"]["job"]
    assert jobs_per_node(premium, job) == 4
    assert jobs_per_node({"instanceTypes": ["c6i.large"]}, job) == 1


@pytest.mark.parametrize("name", VALUES["tiers"])
def test_a_job_reaches_the_nodes_of_its_tier(name: str) -> None:
    tier = config.load(VALUES_FILE).tiers[name]
    job = Renderer().job(tier, "0k3f9a", "http://tierserve-internal.tierserve.svc:8081")
    pod = job["spec"]["template"]["spec"]
    (group,) = groups_of(CLUSTER.value, pod)
    assert group["name"] == name
    assert tolerates(pod, group)
    others = [other for other in CLUSTER.value["managedNodeGroups"] if other.get("taints") and other is not group]
    assert others
    assert not any(tolerates(pod, other) for other in others)
    assert pod["containers"][0]["image"] == "111122223333.dkr.ecr.us-east-2.amazonaws.com/tierserve-worker:0.1.0"
    kubernetes_validate.validate(job, CLUSTER.value["metadata"]["version"], strict=True)


def test_the_cluster_can_run_a_tier_on_gpus_with_the_group_that_is_commented_out() -> None:
    cluster, values = with_gpus(), merged(VALUES_FILE, GPU_FILE)
    assert documents.validate(cluster, "eksctl-config") == []
    assert [group["name"] for group in cluster.value["managedNodeGroups"]] == ["system", "premium", "free", "gpu"]
    assert [finding for check in CHECKS for finding in check(cluster.value, values)] == []
    assert list(placed(CLUSTER.value, values)) == ["gpu selects 0 node groups"]


@pytest.mark.parametrize(
    ("check", "path", "new", "finding"),
    [
        (capacious, "quota", {"gpus": "2"}, "gpu: the quota allows 2 Jobs, gpu holds 1"),
        (capacious, "quota", {"gpus": "2"}, "gpu: the quota's gpus is more than gpu can have"),
        (capacious, "job.gpus", 2, "gpu: not one Job fits a node of gpu"),
        (placed, "job.tolerations", [], "gpu does not bear the taints of gpu"),
        (pullable, "job.image.repository", "tierserve-worker-timm", "gpu: tierserve-worker-timm is not in"),
    ],
)
def test_a_broken_tier_on_gpus_is_found(check: Check, path: str, new: Any, finding: str) -> None:
    values = changed(merged(VALUES_FILE, GPU_FILE), f"tiers.gpu.{path}", new)
    found = list(check(with_gpus().value, values))
    assert any(finding in each for each in found), found


def test_what_the_guide_sets_can_run_too() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    flags = re.findall(r"--set (tiers\.\S+)", text)
    assert flags
    for flag in flags:
        assert config.load(VALUES_FILE, [flag])
        path, _, new = flag.partition("=")
        assert list(capacious(CLUSTER.value, changed(VALUES, path, new))) == []


def test_the_guide_speaks_of_this_cluster() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    meta = CLUSTER.value["metadata"]
    assert f"export AWS_REGION={meta['region']} CLUSTER={meta['name']}" in text
    assert VALUES["persistence"]["storageClass"] in text
    assert meta["version"] in text
    for group in CLUSTER.value["managedNodeGroups"]:
        assert f"`{group['name']}`" in text
        assert group["instanceTypes"][0] in text
