"""Settings: ``chart/values.yaml``, a values file and ``--set`` flags, checked and frozen into records.

The schema ``values`` says what each value may be; ``CHECKS`` below say what must hold between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any

from server.settings import documents
from server.settings.documents import Document, DocumentError, Finding, pointer
from server.settings.overrides import override
from server.settings.quantity import parse_quantity

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_VALUES = ROOT / "chart" / "values.yaml"
SCHEMAS = documents.SCHEMAS
TEMPLATES = ROOT / "jobtemplates"
TEMPLATE_SUFFIX = ".yaml.j2"


class ConfigError(DocumentError):
    """The settings cannot be used; ``findings`` say why, a line each."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model classifies: its directory's name, ``fp32`` or ``int8``, and ``onnx`` or ``timm``."""

    name: str
    variant: str
    runtime: str


@dataclass(frozen=True, slots=True)
class JobShape:
    """One worker Job. ``cpu`` and ``memory`` are quantities; ``deadline``, ``grace`` and ``ttl`` are seconds.

    ``node_selector`` and ``tolerations`` are as in a Kubernetes pod.
    """

    image: str
    image_pull_policy: str
    cpu: str
    memory: str
    max_predictions: int
    deadline: int
    grace: int
    ttl: int
    node_selector: Mapping[str, str] = field(hash=False)
    tolerations: Sequence[Mapping[str, Any]] = field(hash=False)
    priority_class_name: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may ask: waiting predictions, images a request, bytes and pixels of one, attempts a prediction."""

    queue: int
    images: int
    image_bytes: int
    image_pixels: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Waits:
    """How many seconds things may take: a held request, the queue, kept results, an idle worker, a starting Job."""

    sync: float
    queue: float
    results: float
    idle: float
    start: float


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier. ``quota`` has ``cpu``, ``memory`` and ``pods`` as quantities, each only where it is limited."""

    name: str
    namespace: str
    template: str
    model: ModelChoice
    quota: Mapping[str, str] = field(hash=False)
    job: JobShape
    limits: Limits
    waits: Waits


@dataclass(frozen=True, slots=True)
class Lease:
    """How long a lease holds, how often it is extended, and how often lost ones are looked for; seconds."""

    seconds: float
    heartbeat: float
    reclaim: float


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the server is told. ``tick`` is seconds; port 0 stands for any free port."""

    host: str
    port: int
    internal_port: int
    lease: Lease
    tick: float
    tiers: Mapping[str, Tier] = field(hash=False)


def load(
    values: Path = DEFAULT_VALUES,
    overrides: Sequence[str] = (),
    *,
    base: Path | None = DEFAULT_VALUES,
    templates: Path = TEMPLATES,
) -> Settings:
    """The settings of the file ``values`` laid over ``base``, and of ``overrides`` (``a.b.c=v``) laid over both.

    ``base=None`` takes ``values`` alone, as a file that Helm has merged already. Raises ``ConfigError``.
    """
    try:
        layers = [documents.read(path) for path in dict.fromkeys((base, values)) if path is not None]
        layers += [override(flag) for flag in overrides]
    except DocumentError as error:
        raise ConfigError(error.findings) from error
    merged = reduce(documents.merge, layers, Document({}, documents.shown(values), {}))
    if findings := documents.validate(merged, "values"):
        raise ConfigError(findings)
    settings = _settings(documents.filled(merged.value, "values"))
    broken = [found for check in CHECKS for found in check(settings)] + list(_templates_exist(settings, templates))
    if broken:
        order = [layer.file for layer in layers]
        raise ConfigError([_finding(merged, order, found) for found in broken])
    return settings


def _finding(merged: Document, order: Sequence[str], broken: Broken) -> Finding:
    """The finding for ``broken``, at whichever of its values was set last."""
    last = max(broken.pointers, key=lambda at: order.index(merged.place(at).file))
    return merged.finding(last, broken.rule, broken.message)


def _settings(values: Mapping[str, Any]) -> Settings:
    server, lease, image = values["server"], values["server"]["lease"], values["worker"]["image"]
    return Settings(
        host=server["host"],
        port=int(server["port"]),
        internal_port=int(server["internalPort"]),
        lease=Lease(*(float(lease[key]) for key in ("seconds", "heartbeatSeconds", "reclaimSeconds"))),
        tick=float(server["tickSeconds"]),
        tiers=MappingProxyType({name: _tier(name, tier, image) for name, tier in values["tiers"].items()}),
    )


def _tier(name: str, values: Mapping[str, Any], image: Mapping[str, str]) -> Tier:
    model, job, limits, waits = values["model"], values["job"], values["limits"], values["waits"]
    spans = ("syncSeconds", "queueSeconds", "resultsSeconds", "idleSeconds", "startSeconds")
    return Tier(
        name=name,
        namespace=values["namespace"]["name"],
        template=values["template"],
        model=ModelChoice(model["name"], model["variant"], model["runtime"]),
        quota=MappingProxyType({key: _quantity(value) for key, value in values["quota"].items()}),
        job=JobShape(
            image=f"{image['repository']}:{image['tag']}",
            image_pull_policy=image["pullPolicy"],
            cpu=_quantity(job["cpu"]),
            memory=_quantity(job["memory"]),
            max_predictions=int(job["maxPredictions"]),
            deadline=int(job["deadlineSeconds"]),
            grace=int(job["graceSeconds"]),
            ttl=int(job["ttlSeconds"]),
            node_selector=MappingProxyType(dict(job["nodeSelector"])),
            tolerations=tuple(job["tolerations"]),
            priority_class_name=job["priorityClassName"],
        ),
        limits=Limits(*(int(limits[key]) for key in ("queue", "images", "imageBytes", "imagePixels", "attempts"))),
        waits=Waits(*(float(waits[key]) for key in spans)),
    )


def _quantity(value: str | float) -> str:
    return value if isinstance(value, str) else f"{Decimal(repr(value)):f}".removesuffix(".0")


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that does not hold between the values at ``pointers``."""

    pointers: tuple[str, ...]
    rule: str
    message: str


def ports_differ(settings: Settings) -> Iterator[Broken]:
    """The two listeners have different ports (or 0, any free one)."""
    if settings.port == settings.internal_port != 0:
        message = f"server.port and server.internalPort are both {settings.port}"
        yield Broken(("/server/internalPort", "/server/port"), "ports", message)


def heartbeat_within_lease(settings: Settings) -> Iterator[Broken]:
    """A worker's heartbeat comes before its lease runs out."""
    lease = settings.lease
    if lease.heartbeat >= lease.seconds:
        message = f"the heartbeat of {lease.heartbeat:g} s must be shorter than the lease of {lease.seconds:g} s"
        yield Broken(("/server/lease/heartbeatSeconds", "/server/lease/seconds"), "lease", message)


def namespaces_differ(settings: Settings) -> Iterator[Broken]:
    """No two tiers share a namespace, for the quota is a namespace's."""
    owners: dict[str, str] = {}
    for tier in settings.tiers.values():
        owner = owners.setdefault(tier.namespace, tier.name)
        if owner != tier.name:
            pointers = tuple(pointer("tiers", name, "namespace", "name") for name in (tier.name, owner))
            message = f'the tiers {owner} and {tier.name} share the namespace "{tier.namespace}"'
            yield Broken(pointers, "namespace", message)


def jobs_fit_quotas(settings: Settings) -> Iterator[Broken]:
    """One Job of a tier fits into the tier's quota, unless that is 0: a paused tier, which accepts but starts nothing.

    A Job's CPU is above zero and its memory at least 64Mi.
    """
    for tier in settings.tiers.values():
        at = pointer("tiers", tier.name)
        if parse_quantity(tier.job.cpu) <= 0:
            yield Broken((f"{at}/job/cpu",), "job", "must be more than 0")
        if parse_quantity(tier.job.memory) < parse_quantity("64Mi"):
            message = f"{tier.job.memory} is too little for a worker: at least 64Mi"
            yield Broken((f"{at}/job/memory",), "job", message)
        for key, wanted in {"cpu": tier.job.cpu, "memory": tier.job.memory}.items():
            quota = tier.quota.get(key)
            if quota is not None and parse_quantity(wanted) > parse_quantity(quota) > 0:
                message = f"a Job takes {wanted} of {key}, the tier's quota is {quota}: no Job could ever start"
                yield Broken((f"{at}/job/{key}", f"{at}/quota/{key}"), "quota", message)


def waits_agree(settings: Settings) -> Iterator[Broken]:
    """A Job's deadline is longer than its start, idle time and grace; no request is held longer than it may queue."""
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


def variants_run(settings: Settings) -> Iterator[Broken]:
    """The runtime ``timm`` runs the variant ``fp32`` only."""
    for tier in settings.tiers.values():
        if (tier.model.runtime, tier.model.variant) == ("timm", "int8"):
            at = pointer("tiers", tier.name, "model")
            yield Broken((f"{at}/variant", f"{at}/runtime"), "model", "the runtime timm runs the variant fp32 only")


CHECKS: tuple[Callable[[Settings], Iterator[Broken]], ...] = (
    ports_differ,
    heartbeat_within_lease,
    namespaces_differ,
    jobs_fit_quotas,
    waits_agree,
    variants_run,
)


def _templates_exist(settings: Settings, templates: Path) -> Iterator[Broken]:
    for tier in settings.tiers.values():
        if not (templates / tier.template).is_file():
            there = ", ".join(sorted(path.name for path in templates.glob(f"*{TEMPLATE_SUFFIX}"))) or "none"
            message = f"no such file in {documents.shown(templates)}; there: {there}"
            yield Broken((pointer("tiers", tier.name, "template"),), "template", message)
