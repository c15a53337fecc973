"""What must hold between the cluster of eksctl-config.yaml and the values of chart/ci/eks-values.yaml."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from server import shipped
from server.settings import documents, merging
from server.settings.quantity import parse_quantity

CLUSTER = documents.read(shipped.ROOT / "eksctl-config.yaml")
VALUES_FILE = shipped.ROOT / "chart" / "ci" / "eks-values.yaml"
GUIDE = shipped.ROOT / "docs" / "eks.md"
GPU_FILE = shipped.ROOT / "chart" / "ci" / "eks-gpu-values.yaml"


def merged(*files: Path) -> Any:
    """The chart's values with these files over them, one after the other."""
    whole = documents.read(shipped.DEFAULT_VALUES)
    for file in files:
        whole = merging.over(whole, documents.read(file))
    return documents.filled(whole.value, "values")


def with_gpus() -> documents.Document:
    """The cluster, with the node group for GPUs, which is commented out."""
    before, begin, group = (shipped.ROOT / "eksctl-config.yaml").read_text().partition("  # - name: gpu\n")
    lines = (begin + group).splitlines()
    return documents.parse(before + "\n".join(line.replace("  # ", "  ", 1) for line in lines), "eksctl-config.yaml")


VALUES = merged(VALUES_FILE)
RELEASE_NAMESPACE = "tierserve"

Values = Mapping[str, Any]
Group = Mapping[str, Any]
Pod = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class InstanceType:
    """An EC2 instance type. ``vnni``: its processor has VNNI, which int8 needs.

    ``pods`` is how many pods it can hold: network interfaces x (addresses of each - 1) + 2.
    """

    cpus: int
    gibibytes: int
    pods: int
    vnni: bool
    gpus: int = 0


# From EC2's DescribeInstanceTypes. Intel has VNNI since Ice Lake, AMD since Zen 4.
INSTANCE_TYPES = {
    "c6i.large": InstanceType(cpus=2, gibibytes=4, pods=29, vnni=True),
    "c7i.large": InstanceType(cpus=2, gibibytes=4, pods=29, vnni=True),
    "c6a.xlarge": InstanceType(cpus=4, gibibytes=8, pods=58, vnni=False),
    "c6i.xlarge": InstanceType(cpus=4, gibibytes=8, pods=58, vnni=True),
    "c6id.xlarge": InstanceType(cpus=4, gibibytes=8, pods=58, vnni=True),
    "c6in.xlarge": InstanceType(cpus=4, gibibytes=8, pods=58, vnni=True),
    "c7a.xlarge": InstanceType(cpus=4, gibibytes=8, pods=58, vnni=True),
    "c7i.xlarge": InstanceType(cpus=4, gibibytes=8, pods=58, vnni=True),
    "g4dn.xlarge": InstanceType(cpus=4, gibibytes=16, pods=29, vnni=True, gpus=1),
    "g5.xlarge": InstanceType(cpus=4, gibibytes=16, pods=58, vnni=False, gpus=1),
    "m7i.xlarge": InstanceType(cpus=4, gibibytes=16, pods=58, vnni=True),
}
# What nodeadm of the EKS image reserves: a part of each of the first CPUs, 255Mi and 11Mi a pod, and 100Mi below which
# pods are evicted.
RESERVED_CPU = (Decimal("0.06"), Decimal("0.01"), Decimal("0.005"), Decimal("0.005"))
# The part of the memory that a virtual machine does not give its system, as Karpenter estimates it.
MEMORY_OVERHEAD = Decimal("0.075")
# aws-node, kube-proxy, ebs-csi-node and eks-pod-identity-agent request 180m and 120Mi. The rest is margin.
DAEMONS_CPU, DAEMONS_MEMORY = Decimal("0.25"), parse_quantity("256Mi")
# How long a new node takes: the autoscaler's look, the machine's start, its join, and the first pull of an image.
NODE_SECONDS = 300
MEBIBYTE = 1 << 20


def room(instance_type: InstanceType) -> dict[str, Decimal]:
    """How much the pods of a tier can request in all on one node."""
    memory = instance_type.gibibytes * 1024 * (1 - MEMORY_OVERHEAD) - (255 + 11 * instance_type.pods) - 100
    cpu = instance_type.cpus - sum(RESERVED_CPU[: instance_type.cpus], Decimal())
    gpus = Decimal(instance_type.gpus)
    return {"cpu": cpu - DAEMONS_CPU, "memory": memory * MEBIBYTE - DAEMONS_MEMORY, "gpus": gpus}


def jobs_per_node(group: Group, job: Mapping[str, Any]) -> int:
    """How many Jobs the smallest node of the group holds."""
    rooms = [room(INSTANCE_TYPES[name]) for name in group["instanceTypes"]]
    wanted = {key: parse_quantity(str(job[key])) for key in ("cpu", "memory", "gpus")}
    return min(int(space[key] // one) for space in rooms for key, one in wanted.items() if one)


def jobs_allowed(tier: Values) -> int:
    """How many Jobs can run at once by the tier's quota."""
    quota, job = tier["quota"], {**tier["job"], "pods": 1}
    return min(int(parse_quantity(str(quota[key])) // parse_quantity(str(job[key]))) for key in quota)


def tolerates(pod: Pod, group: Group) -> bool:
    """Whether the pod tolerates every taint of the group's nodes that keeps pods out."""

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
    """The node group of a tier; None unless there is exactly one."""
    groups = groups_of(cluster, tier["job"])
    return groups[0] if len(groups) == 1 else None


def placed(cluster: Values, values: Values) -> Iterator[str]:
    """The server and each tier have a node group of their own, which lets them in and keeps the others out."""
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
    """Every Job that a quota allows finds a node, whichever instance type of its group the node has."""
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
        for key in ("cpu", "memory", "gpus"):
            most = group["maxSize"] * min(room(INSTANCE_TYPES[type_])[key] for type_ in group["instanceTypes"])
            if key in tier["quota"] and parse_quantity(str(tier["quota"][key])) > most:
                yield f"{name}: the quota's {key} is more than {group['name']} can have"
        if tier["model"]["variant"] == "int8":
            old = [type_ for type_ in group["instanceTypes"] if not INSTANCE_TYPES[type_].vnni]
            yield from (f"{name}: {type_} has no VNNI, which int8 needs" for type_ in old)
        if allowed > here * group["minSize"] and tier["waits"]["startSeconds"] < NODE_SECONDS:
            yield f"{name}: its Jobs are replaced before a node of {group['name']} can be there"


def scalable(cluster: Values, values: Values) -> Iterator[str]:
    """Groups that can grow have an autoscaler that can see them. Spot groups have several equal instance types."""
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
    """All zones are in the region. The server's volume finds a node in its zone, whichever zone that is."""
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
    """No pod of ours has an AWS role. Those that have one can change only what belongs to this cluster."""
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
    """NetworkPolicies are enforced, and they allow this cluster's networks."""
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
    """Both images are in one ECR registry, in the cluster's region, under the example account."""
    registry = f"111122223333.dkr.ecr.{cluster['metadata']['region']}.amazonaws.com"
    for name in ("server", "worker"):
        repository = values[name]["image"]["repository"]
        if repository != f"{registry}/tierserve-{name}":
            yield f"{name}: {repository} is not in {registry}"
    for name, tier in values["tiers"].items():
        own = tier["job"]["image"]["repository"]
        if own and own != f"{registry}/tierserve-worker-timm":
            yield f"{name}: {own} is not in {registry}"


Check = Callable[[Values, Values], Iterator[str]]
CHECKS: Sequence[Check] = (placed, capacious, scalable, zoned, identified, networked, pullable)
