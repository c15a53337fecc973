"""The rules that hold between values. The schema checks each value by itself.

The docstring of each rule goes into docs/configuration.md, which ``server.settings.reference`` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from server.settings.documents import pointer
from server.settings.manifests import SERVER_LABELS
from server.settings.quantity import parse_quantity
from server.settings.records import Settings

RESERVED = "TIERSERVE_"


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that the values at ``pointers`` break."""

    pointers: tuple[str, ...]
    rule: str
    message: str


def ports_differ(settings: Settings) -> Iterator[Broken]:
    """The public and the internal port differ, unless both are 0, which takes any free port."""
    if settings.port == settings.internal_port != 0:
        message = f"server.port and server.internalPort are both {settings.port}"
        yield Broken(("/server/internalPort", "/server/port"), "ports", message)


def heartbeat_within_lease(settings: Settings) -> Iterator[Broken]:
    """The heartbeat of a worker is shorter than its lease."""
    lease = settings.lease
    if lease.heartbeat >= lease.seconds:
        message = f"the heartbeat of {lease.heartbeat:g} s must be shorter than the lease of {lease.seconds:g} s"
        yield Broken(("/server/lease/heartbeatSeconds", "/server/lease/seconds"), "lease", message)


def namespaces_differ(settings: Settings) -> Iterator[Broken]:
    """No two tiers share a namespace, because a quota applies to a whole namespace."""
    owners: dict[str, str] = {}
    for tier in settings.tiers.values():
        owner = owners.setdefault(tier.namespace, tier.name)
        if owner != tier.name:
            pointers = tuple(pointer("tiers", name, "namespace", "name") for name in (tier.name, owner))
            message = f'the tiers {owner} and {tier.name} share the namespace "{tier.namespace}"'
            yield Broken(pointers, "namespace", message)


def jobs_fit_quotas(settings: Settings) -> Iterator[Broken]:
    """One Job of a tier fits into the tier's quota, unless the quota is 0: such a tier is paused and starts no Job.

    A Job's CPU is more than 0, and its memory is at least 64Mi.
    """
    for tier in settings.tiers.values():
        at = pointer("tiers", tier.name)
        if parse_quantity(tier.job.cpu) <= 0:
            yield Broken((f"{at}/job/cpu",), "job", "must be more than 0")
        if parse_quantity(tier.job.memory) < parse_quantity("64Mi"):
            message = f"{tier.job.memory} is too little for a worker: at least 64Mi"
            yield Broken((f"{at}/job/memory",), "job", message)
        taken = {"cpu": tier.job.cpu, "memory": tier.job.memory, "gpus": str(tier.job.gpus)}
        for key, wanted in taken.items():
            quota = tier.quota.get(key)
            if quota is not None and parse_quantity(wanted) > parse_quantity(quota) > 0:
                message = f"a Job takes {wanted} of {key}, the tier's quota is {quota}: no Job could ever start"
                yield Broken((f"{at}/job/{key}", f"{at}/quota/{key}"), "quota", message)


def gpus_need_pytorch(settings: Settings) -> Iterator[Broken]:
    """Jobs with GPUs, and batches of more than one picture, need the runtime `timm`."""
    for tier in settings.tiers.values():
        at = pointer("tiers", tier.name)
        for key, more in {"gpus": tier.job.gpus > 0, "batch": tier.job.batch > 1}.items():
            if more and tier.model.runtime != "timm":
                message = f"needs the runtime timm, not {tier.model.runtime}"
                yield Broken((f"{at}/job/{key}", f"{at}/model/runtime"), key, message)


def names_are_free(settings: Settings) -> Iterator[Broken]:
    """A tier sets no label of its Jobs that the server sets, and no environment variable `TIERSERVE_...`."""
    for tier in settings.tiers.values():
        at = pointer("tiers", tier.name, "job")
        for label in sorted(SERVER_LABELS & tier.job.labels.keys()):
            message = f"the server sets the label {label} of a Job: leave it out"
            yield Broken((f"{at}/labels{pointer(label)}",), "labels", message)
        for name in tier.job.env:
            if name.startswith(RESERVED):
                message = f"variables {RESERVED}... are the server's own: leave it out"
                yield Broken((f"{at}/env{pointer(name)}",), "env", message)


def waits_agree(settings: Settings) -> Iterator[Broken]:
    """A Job's deadline exceeds its start, idle and grace times; a request waits no longer than it may be queued."""
    for tier in settings.tiers.values():
        at, deadline, waits = pointer("tiers", tier.name), tier.job.deadline, tier.waits
        spans = {"waits/startSeconds": waits.start, "waits/idleSeconds": waits.idle, "job/graceSeconds": tier.job.grace}
        for key, seconds in spans.items():
            if seconds >= deadline:
                message = f"{seconds:g} s must be shorter than the Job's deadline of {deadline} s"
                yield Broken((f"{at}/{key}", f"{at}/job/deadlineSeconds"), "deadline", message)
        if waits.sync > waits.queue:
            message = f"{waits.sync:g} s of holding a request must not exceed {waits.queue:g} s of queueing"
            yield Broken((f"{at}/waits/syncSeconds", f"{at}/waits/queueSeconds"), "waits", message)


def requests_fit_queues(settings: Settings) -> Iterator[Broken]:
    """The pictures of one request, as many and as large as they may be, fit into the bytes of the tier's queue."""
    for tier in settings.tiers.values():
        limits, at = tier.limits, f"{pointer('tiers', tier.name)}/limits"
        largest = limits.images * limits.image_bytes + 4 * (limits.images + 1)  # with the head of a blob
        if largest > limits.queue_bytes:
            message = f"one request may take {largest} bytes, the whole queue {limits.queue_bytes}"
            yield Broken((f"{at}/queueBytes", f"{at}/imageBytes", f"{at}/images"), "queue", message)


def variants_run(settings: Settings) -> Iterator[Broken]:
    """The runtime ``timm`` runs the variant ``fp32`` only."""
    for tier in settings.tiers.values():
        if (tier.model.runtime, tier.model.variant) == ("timm", "int8"):
            at = pointer("tiers", tier.name, "model")
            yield Broken((f"{at}/variant", f"{at}/runtime"), "model", "the runtime timm runs the variant fp32 only")


def proxies_are_networks(settings: Settings) -> Iterator[Broken]:
    """Each of `server.trustedProxies` is a network: no bit of its address is set beyond its prefix."""
    for index, text in enumerate(settings.trusted_proxies):
        try:
            ip_network(text)
        except ValueError as error:
            yield Broken((pointer("server", "trustedProxies", str(index)),), "network", str(error))


def origins_are_as_browsers_send_them(settings: Settings) -> Iterator[Broken]:
    """No origin of `server.cors.origins` names the port that its scheme has anyway: browsers leave it out."""
    for index, text in enumerate(settings.cors_origins):
        for scheme, port in (("http", 80), ("https", 443)):
            if text.startswith(f"{scheme}://") and text.endswith(f":{port}"):
                message = f"browsers leave out the port {port} of {scheme}: write {text.removesuffix(f':{port}')}"
                yield Broken((pointer("server", "cors", "origins", str(index)),), "origin", message)


CHECKS: tuple[Callable[[Settings], Iterator[Broken]], ...] = (
    ports_differ,
    heartbeat_within_lease,
    namespaces_differ,
    jobs_fit_quotas,
    gpus_need_pytorch,
    names_are_free,
    waits_agree,
    requests_fit_queues,
    variants_run,
    proxies_are_networks,
    origins_are_as_browsers_send_them,
)
