"""What the server decides of every Job, whatever its template says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from server.settings.documents import Document, Finding, pointer
from server.settings.manifests import SERVICE_ACCOUNT, job_labels, job_name
from server.settings.quantity import parse_quantity
from server.settings.records import Tier


def stamped(document: Document, tier: Tier, run: str) -> tuple[dict[str, Any], list[Finding]]:
    """Return the manifest with the server's fields, and where the template contradicts them or the tier's settings."""
    # The three keys come first in the order in which people expect them; all have values by then.
    manifest: dict[str, Any] = {"apiVersion": None, "kind": None, "metadata": {}} | document.value
    labels = job_labels(tier.name, run)
    pod = ("spec", "template")
    stamps: dict[tuple[str, ...], Any] = {
        ("metadata", "name"): job_name(tier.name, run),
        ("metadata", "namespace"): tier.namespace,
        **{("metadata", "labels", key): value for key, value in labels.items()},
        ("spec", "activeDeadlineSeconds"): tier.job.deadline,
        ("spec", "ttlSecondsAfterFinished"): tier.job.ttl,
        **{(*pod, "metadata", "labels", key): value for key, value in labels.items()},
        (*pod, "spec", "serviceAccountName"): SERVICE_ACCOUNT,
        (*pod, "spec", "terminationGracePeriodSeconds"): tier.job.grace,
    }
    findings = _against_policy(document, tier)
    for keys, value in stamps.items():
        holder = manifest
        for key in keys[:-1]:
            holder = holder.setdefault(key, {})
        if holder.setdefault(keys[-1], value) != value:
            message = f'is "{value}" by the server\'s decision: leave it out of the template'
            findings.append(document.finding(pointer(*keys), "stamp", message))
    return manifest, findings


def _against_policy(document: Document, tier: Tier) -> list[Finding]:
    """Check what the schema cannot: the image and the GPUs are the configured ones, no variable is set twice."""
    at = "/spec/template/spec/containers/0"
    container = document.value["spec"]["template"]["spec"]["containers"][0]
    findings = list(_of_resources(document, f"{at}/resources", container["resources"], tier))
    if container["image"] != tier.job.image:
        message = f'must be the configured "{tier.job.image}", not "{container["image"]}"'
        findings.append(document.finding(f"{at}/image", "image", message))
    names = [variable["name"] for variable in container["env"]]
    for index, name in enumerate(names):
        if name in names[:index]:
            message = f"{name} is set twice: by the template, and once more by it or by job.env"
            findings.append(document.finding(f"{at}/env/{index}/name", "env", message))
    return findings


def _of_resources(document: Document, at: str, resources: Mapping[str, Any], tier: Tier) -> Iterator[Finding]:
    """Requests equal limits, on which ``engines.quotas`` relies; a Job fits the quota; its GPUs are the tier's."""
    requests, limits = resources["requests"], resources["limits"]
    for key, limit in limits.items():
        if parse_quantity(requests.get(key, "0")) != parse_quantity(limit):
            message = f"must equal the limit {limit}, not {requests.get(key, 0)}"
            yield document.finding(f"{at}/requests{pointer(key)}", "resources", message)
        # A quota of 0 pauses the tier; its template is right.
        if key in tier.quota and parse_quantity(limit) > parse_quantity(tier.quota[key]) > 0:
            message = f"{limit} is more than the tier's quota of {tier.quota[key]}"
            yield document.finding(f"{at}/limits/{key}", "quota", message)
    wanted = {tier.job.gpu_resource: tier.job.gpus} if tier.job.gpus else {}
    for kind, found in (("requests", requests), ("limits", limits)):
        devices = {key: int(value) for key, value in found.items() if "/" in key}
        if devices != wanted:
            says = " and ".join(f"{count} of {key}" for key, count in devices.items())
            message = f"must have {tier.job.gpus} of {tier.job.gpu_resource}, as job.gpus says, not {says or 'none'}"
            yield document.finding(f"{at}/{kind}", "gpus", message)
