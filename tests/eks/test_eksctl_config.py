"""The cluster of eksctl-config.yaml, the values of chart/ci/eks-values.yaml, and that the one can run the other."""

from __future__ import annotations

import copy
import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import kubernetes_validate
import pytest

from server.settings import documents
from server.settings import values as config
from server.settings.documents import Document
from server.settings.quantity import parse_quantity
from server.settings.render import Renderer

CLUSTER = documents.read(config.ROOT / "eksctl-config.yaml")
VALUES_FILE = config.ROOT / "chart" / "ci" / "eks-values.yaml"
GUIDE = config.ROOT / "docs" / "eks.md"
VALUES = documents.filled(
    documents.merge(documents.read(config.DEFAULT_VALUES), documents.read(VALUES_FILE)).value, "values"
)
RELEASE_NAMESPACE = "tierserve"

Values = Mapping[str, Any]
Group = Mapping[str, Any]
Pod = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class InstanceType:
    """Virtual CPUs, GiB, the most pods (network interfaces x (addresses - 1) + 2), and VNNI, which int8 needs."""

    cpus: int
    gibibytes: int
    pods: int
    vnni: bool


# EC2's DescribeInstanceTypes. VNNI: Intel since Ice Lake, AMD since Zen 4.
INSTANCE_TYPES = {
    "c6i.large": InstanceType(2, 4, 29, True),
    "c7i.large": InstanceType(2, 4, 29, True),
    "c6a.xlarge": InstanceType(4, 8, 58, False),
    "c6i.xlarge": InstanceType(4, 8, 58, True),
    "c6id.xlarge": InstanceType(4, 8, 58, True),
    "c6in.xlarge": InstanceType(4, 8, 58, True),
    "c7a.xlarge": InstanceType(4, 8, 58, True),
    "c7i.xlarge": InstanceType(4, 8, 58, True),
    "m7i.xlarge": InstanceType(4, 16, 58, True),
}
# What nodeadm of the EKS image keeps back: a part of each of the first CPUs, 255Mi + 11Mi a pod, 100Mi before eviction.
RESERVED_CPU = (Decimal("0.06"), Decimal("0.01"), Decimal("0.005"), Decimal("0.005"))
# The machine's own share of its memory, as Karpenter estimates it.
MEMORY_OVERHEAD = Decimal("0.075")
# aws-node, kube-proxy, ebs-csi-node and eks-pod-identity-agent ask for 180m and 120Mi; the rest is margin.
DAEMONS_CPU, DAEMONS_MEMORY = Decimal("0.25"), parse_quantity("256Mi")
# An autoscaler's look, a new machine, its join and the first pull of an image.
NODE_SECONDS = 300
MEBIBYTE = 1 << 20


def room(instance_type: InstanceType) -> dict[str, Decimal]:
    """What the pods of a tier may ask for on one node."""
    memory = instance_type.gibibytes * 1024 * (1 - MEMORY_OVERHEAD) - (255 + 11 * instance_type.pods) - 100
    cpu = instance_type.cpus - sum(RESERVED_CPU[: instance_type.cpus], Decimal())
    return {"cpu": cpu - DAEMONS_CPU, "memory": memory * MEBIBYTE - DAEMONS_MEMORY}


def jobs_per_node(group: Group, job: Mapping[str, Any]) -> int:
    """How many Jobs the smallest node of the group holds."""
    rooms = [room(INSTANCE_TYPES[name]) for name in group["instanceTypes"]]
    return min(int(space[key] // parse_quantity(str(job[key]))) for space in rooms for key in ("cpu", "memory"))


def jobs_allowed(tier: Values) -> int:
    """How many Jobs the tier's quota lets run at once."""
    quota, job = tier["quota"], {**tier["job"], "pods": 1}
    return min(int(parse_quantity(str(quota[key])) // parse_quantity(str(job[key]))) for key in quota)


def tolerates(pod: Pod, group: Group) -> bool:
    """Whether the pod bears every taint of the group's nodes that keeps pods out."""

    def bears(toleration: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
        same = all(toleration.get(part) in (None, "", taint[part]) for part in ("key", "effect"))
        return same and (toleration.get("operator") == "Exists" or toleration.get("value") == taint["value"])

    hard = [taint for taint in group.get("taints", ()) if taint["effect"] != "PreferNoSchedule"]
    return all(any(bears(toleration, taint) for toleration in pod.get("tolerations", ())) for taint in hard)


def groups_of(cluster: Values, pod: Pod) -> list[Group]:
    """The node groups that the pod's node selector names."""
    wanted = pod.get("nodeSelector", {}).items()
    return [group for group in cluster["managedNodeGroups"] if wanted and wanted <= group["labels"].items()]


def group_of(cluster: Values, tier: Values) -> Group | None:
    """The one node group of a tier, if there is exactly one."""
    groups = groups_of(cluster, tier["job"])
    return groups[0] if len(groups) == 1 else None


def placed(cluster: Values, values: Values) -> Iterator[str]:
    """The server and each tier have one node group each, which lets them in and keeps the others out."""
    pods = {"server": values["pod"], **{name: tier["job"] for name, tier in values["tiers"].items()}}
    owners: dict[str, str] = {}
    for name, pod in pods.items():
        groups = groups_of(cluster, pod)
        if len(groups) != 1:
            yield f"{name} selects {len(groups)} node groups"
            continue
        if not tolerates(pod, groups[0]):
            yield f"{name} does not bear the taints of {groups[0]['name']}"
        if owners.setdefault(groups[0]["name"], name) != name:
            yield f"{name} shares {groups[0]['name']} with {owners[groups[0]['name']]}"
    for group in cluster["managedNodeGroups"]:
        owner = owners.get(group["name"])
        if owner in values["tiers"]:
            strangers = {**pods, "an add-on": {}}
            yield from (
                f"the taints of {group['name']} let {name} in"
                for name, pod in strangers.items()
                if name != owner and tolerates(pod, group)
            )
        elif owner == "server" and not tolerates({}, group):
            yield f"{group['name']} keeps the add-ons out"


def capacious(cluster: Values, values: Values) -> Iterator[str]:
    """Every Job that a quota allows finds a node in the end, on any instance type of its group."""
    for name, tier in values["tiers"].items():
        group = group_of(cluster, tier)
        if group is None:
            continue
        if unknown := set(group["instanceTypes"]) - INSTANCE_TYPES.keys():
            yield f"{group['name']}: nothing is known of {sorted(unknown)}"
            continue
        here, allowed = jobs_per_node(group, tier["job"]), jobs_allowed(tier)
        if not here:
            yield f"{name}: not one Job fits a node of {group['name']}"
        if allowed > here * group["maxSize"]:
            yield f"{name}: the quota allows {allowed} Jobs, {group['name']} holds {here * group['maxSize']}"
        for key in ("cpu", "memory"):
            most = group["maxSize"] * min(room(INSTANCE_TYPES[type_])[key] for type_ in group["instanceTypes"])
            if key in tier["quota"] and parse_quantity(str(tier["quota"][key])) > most:
                yield f"{name}: the quota's {key} is more than {group['name']} can have"
        if tier["model"]["variant"] == "int8":
            old = [type_ for type_ in group["instanceTypes"] if not INSTANCE_TYPES[type_].vnni]
            yield from (f"{name}: {type_} has no VNNI, which int8 needs" for type_ in old)
        if allowed > here * group["minSize"] and tier["waits"]["startSeconds"] < NODE_SECONDS:
            yield f"{name}: its Jobs are replaced before a node of {group['name']} can be there"


def scalable(cluster: Values, values: Values) -> Iterator[str]:
    """Groups that grow have an autoscaler that can see them; spot groups have a choice of equal types."""
    grown_by = {(each["namespace"], each["serviceAccountName"]) for each in cluster["iam"]["podIdentityAssociations"]}
    tiers_groups = [group for tier in values["tiers"].values() if (group := group_of(cluster, tier))]
    for group in cluster["managedNodeGroups"]:
        name, least, most = group["name"], group["minSize"], group["maxSize"]
        if not least <= group.get("desiredCapacity", least) <= most:
            yield f"{name}: not minSize <= desiredCapacity <= maxSize"
        if group["updateConfig"].get("maxUnavailable", 1) > most:
            yield f"{name}: maxUnavailable is more than maxSize"
        if least < most and ("kube-system", "cluster-autoscaler") not in grown_by:
            yield f"{name}: no autoscaler may make it grow"
        if group in tiers_groups and not group.get("propagateASGTags"):
            yield f"{name}: the autoscaler sees neither its labels nor its taints"
        if group.get("spot"):
            shapes = {(INSTANCE_TYPES[type_].cpus, INSTANCE_TYPES[type_].gibibytes) for type_ in group["instanceTypes"]}
            if len(group["instanceTypes"]) < 4 or len(shapes) > 1:
                yield f"{name}: spot needs at least four types of one size"


def zoned(cluster: Values, values: Values) -> Iterator[str]:
    """Zones are the region's; the server's volume finds a node in its zone, whichever that is."""
    zones, region = set(cluster["availabilityZones"]), cluster["metadata"]["region"]
    if outside := [zone for zone in zones if zone[:-1] != region]:
        yield f"{outside} are not in {region}"
    for group in cluster["managedNodeGroups"]:
        if not set(group.get("availabilityZones", ())) <= zones:
            yield f"{group['name']} has zones that the cluster has not"
    for group in groups_of(cluster, values["pod"]):
        if not 2 <= len(group.get("availabilityZones", zones)) <= group["minSize"]:
            yield f"{group['name']}: the server's group needs two zones and a node in each"
        if group.get("spot"):
            yield f"{group['name']}: the server's nodes are taken away"


def identified(cluster: Values, values: Values) -> Iterator[str]:
    """No pod of ours has an AWS role, and who has one can change only what is this cluster's."""
    ours = {RELEASE_NAMESPACE, *(tier["namespace"]["name"] for tier in values["tiers"].values())}
    own_tag = f"aws:ResourceTag/k8s.io/cluster-autoscaler/{cluster['metadata']['name']}"
    for association in cluster["iam"]["podIdentityAssociations"]:
        who = f"{association['namespace']}/{association['serviceAccountName']}"
        if association["namespace"] in ours:
            yield f"{who} has an AWS role that nothing uses"
        for statement in association["permissionPolicy"]["Statement"]:
            changes = [each for each in statement["Action"] if not re.search(r":(Describe|Get|List)", each)]
            condition = statement.get("Condition", {}).get("StringEquals", {})
            if changes and condition.get(own_tag) != "owned":
                yield f"{who} may {changes} beyond the cluster"
    addons = {addon["name"]: addon for addon in cluster["addons"]}
    with_role = {name for name, addon in addons.items() if addon.get("useDefaultPodIdentityAssociations")}
    if with_role != {"vpc-cni", "aws-ebs-csi-driver"}:
        yield f"add-ons with AWS permissions: {sorted(with_role)}"
    if "eks-pod-identity-agent" not in addons:
        yield "no agent gives out pod identities"


def networked(cluster: Values, values: Values) -> Iterator[str]:
    """NetworkPolicies are enforced, and written for this cluster's networks."""
    addons = {addon["name"]: addon for addon in cluster["addons"]}
    if missing := {"coredns", "kube-proxy", "metrics-server"} - addons.keys():
        yield f"missing add-ons: {sorted(missing)}"
    settings = json.loads(addons.get("vpc-cni", {}).get("configurationValues", "{}"))
    if settings.get("enableNetworkPolicy") != "true":
        yield "network policies are not enforced"
    if settings.get("nodeAgent", {}).get("enablePolicyEventLogs") != "true":
        yield "what network policies refuse is not logged"
    vpc = ipaddress.IPv4Network(cluster["vpc"]["cidr"])
    services = ipaddress.IPv4Network(cluster["kubernetesNetworkConfig"]["serviceIPv4CIDR"])
    if vpc.overlaps(services):
        yield "the networks of nodes and services overlap"
    let_out = [ipaddress.IPv4Network(peer["ipBlock"]["cidr"]) for peer in values["networkPolicy"]["apiServer"]]
    for needed in (vpc, ipaddress.IPv4Network(services[1])):
        if not any(needed.subnet_of(block) for block in let_out):
            yield f"the server cannot reach the API server at {needed}"
    if values["service"]["port"] != values["server"]["port"]:
        yield "the VPC CNI wants a service's port to be the container's"


def pullable(cluster: Values, values: Values) -> Iterator[str]:
    """Both images lie in one ECR registry, in the cluster's region, under the example account."""
    registry = f"111122223333.dkr.ecr.{cluster['metadata']['region']}.amazonaws.com"
    for name in ("server", "worker"):
        repository = values[name]["image"]["repository"]
        if repository != f"{registry}/tierserve-{name}":
            yield f"{name}: {repository} is not in {registry}"


Check = Callable[[Values, Values], Iterator[str]]
CHECKS: Sequence[Check] = (placed, capacious, scalable, zoned, identified, networked, pullable)


def changed(value: Any, path: str, new: Any) -> Any:
    """A copy of ``value`` in which ``new`` stands at ``path``; None takes it away."""
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
    merged = documents.merge(documents.read(config.DEFAULT_VALUES), documents.read(VALUES_FILE))
    assert documents.validate(merged, "values") == []


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
