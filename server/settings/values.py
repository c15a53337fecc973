"""Reads the settings from ``chart/values.yaml``, a values file and ``--set`` flags into frozen records.

The schema ``values`` checks each value, and ``rules`` what must hold between values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any

from server.settings import documents
from server.settings.documents import Document, DocumentError, Finding
from server.settings.manifests import SERVER_LABELS
from server.settings.overrides import override
from server.settings.records import (
    Access,
    CallerLimits,
    Canary,
    JobShape,
    LeaseTimes,
    Limits,
    ModelChoice,
    Settings,
    StoreLimits,
    Tier,
    Tracing,
    Waits,
)
from server.settings.rules import Broken, bad_forms, broken_rules
from server.settings.sources import ConfigError as ConfigError
from server.settings.sources import Files, Sources
from server.shipped import DEFAULT_VALUES, TEMPLATES

_Common = tuple[Mapping[str, str], Mapping[str, str], int]
"""The labels and the annotations of every Job, and the user as which it runs."""


def load(
    values: Path = DEFAULT_VALUES,
    overrides: Sequence[str] = (),
    *,
    base: Path | None = DEFAULT_VALUES,
    templates: Path = TEMPLATES,
) -> Settings:
    """Return the settings of ``base`` with the file ``values`` merged into it, and then ``overrides`` (``a.b.c=v``).

    With ``base=None`` the file ``values`` must be complete, as one that Helm has merged. Raises ``ConfigError``.
    """
    return as_settings(complete(Files(values, tuple(overrides), base, templates).read()))


def complete(sources: Sources) -> dict[str, Any]:
    """Return the values that ``sources`` give, checked, and with every default filled in. Raises ``ConfigError``."""
    try:
        layers = [documents.parse(text, file) for file, text in sources.layers]
        layers += [override(flag) for flag in sources.overrides]
    except DocumentError as error:
        raise ConfigError(error.findings) from error
    merged = reduce(documents.merge, layers, Document({}, sources.layers[-1][0], {}))
    order = [layer.file for layer in layers]
    if findings := documents.validate(merged, "values"):
        findings += [_finding(merged, order, found) for found in bad_forms(merged.value)]
        raise ConfigError(sorted(findings, key=lambda finding: (finding.line, finding.pointer)))
    values: dict[str, Any] = documents.filled(merged.value, "values")
    # What only the chart reads is judged as it stands: there null takes a default away.
    judged = {**merged.value, "server": values["server"], "tiers": enabled(values["tiers"])}
    templates = {*sources.templates.texts, *sources.templates.unusable, *values["jobTemplates"]}
    if broken := list(broken_rules(judged, templates)):
        raise ConfigError([_finding(merged, order, found) for found in broken])
    return values


def enabled(tiers: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the tiers that are not left out; to all else the others are not there."""
    return {name: tier for name, tier in tiers.items() if tier["enabled"]}


def _finding(merged: Document, order: Sequence[str], broken: Broken) -> Finding:
    """Return the finding for ``broken``, at whichever of its values comes from the last layer."""
    last = max(broken.pointers, key=lambda at: order.index(merged.location(at).file))
    return merged.finding(last, broken.rule, broken.message)


# int() and float() because JSON Schema accepts 8080.0 as an integer and 30 as a number.
def as_settings(values: Mapping[str, Any]) -> Settings:
    """Return complete values as records."""
    server, lease, models = values["server"], values["server"]["lease"], values["server"]["models"]
    image, common = (
        values["worker"]["image"],
        (values["commonLabels"], values["commonAnnotations"], int(values["runAsUser"])),
    )
    return Settings(
        host=server["host"],
        hosts=tuple(server["hosts"]),
        trusted_proxies=tuple(server["trustedProxies"]),
        cors_origins=tuple(server["cors"]["origins"]),  # of the word "*", too
        require_keys=bool(server["requireKeys"]),
        access_log=server["accessLog"],
        tracing=Tracing(endpoint=server["tracing"]["endpoint"], ratio=float(server["tracing"]["ratio"])),
        port=int(server["port"]),
        internal_port=int(server["internalPort"]),
        models=StoreLimits(bytes=int(models["bytes"]), model_bytes=int(models["modelBytes"])),
        lease=LeaseTimes(
            seconds=float(lease["seconds"]),
            heartbeat=float(lease["heartbeatSeconds"]),
            reclaim=float(lease["reclaimSeconds"]),
        ),
        tick=float(server["tickSeconds"]),
        lobby_seconds=float(server["lobbySeconds"]),
        tiers=MappingProxyType(
            {name: _tier(name, tier, image, common) for name, tier in enabled(values["tiers"]).items()}
        ),
    )


def _tier(name: str, values: Mapping[str, Any], image: Mapping[str, str], common: _Common) -> Tier:
    job, limits, waits = values["job"], values["limits"], values["waits"]
    return Tier(
        name=name,
        namespace=values["namespace"]["name"],
        template=values["template"],
        model=_model(values["model"]),
        quota=MappingProxyType({key: _quantity(value) for key, value in values["quota"].items()}),
        job=_job(job, image, common),
        access=_access(values["access"]),
        limits=Limits(
            queue=int(limits["queue"]),
            queue_bytes=int(limits["queueBytes"]),
            images=int(limits["images"]),
            image_bytes=int(limits["imageBytes"]),
            image_pixels=int(limits["imagePixels"]),
            attempts=int(limits["attempts"]),
        ),
        waits=Waits(
            sync=float(waits["syncSeconds"]),
            queue=float(waits["queueSeconds"]),
            results=float(waits["resultsSeconds"]),
            idle=float(waits["idleSeconds"]),
            start=float(waits["startSeconds"]),
        ),
    )


def _model(model: Mapping[str, Any]) -> ModelChoice:
    canary, percent = model["canary"]["name"], float(model["canary"]["percent"])
    beside = Canary(canary, percent) if canary and percent else None
    return ModelChoice(name=model["name"], variant=model["variant"], runtime=model["runtime"], canary=beside)


def _access(access: Mapping[str, Any]) -> Access:
    limits = CallerLimits(
        per_second=float(access["perSecond"]),
        burst=int(access["burst"]),
        per_day=int(access["perDay"]),
        queued=int(access["queued"]),
        bytes_queued=int(access["bytesQueued"]),
    )
    return Access(anonymous=bool(access["anonymous"]), limits=limits)


def _image(own: Mapping[str, str], common: Mapping[str, str]) -> str:
    tag, digest = own["tag"] or common["tag"], own["digest"]
    if own["repository"]:  # a digest is of one image
        tag = own["tag"] or common["tag"].partition("@")[0]
    elif not own["tag"]:
        digest = digest or common["digest"]
    name = f"{own['repository'] or common['repository']}:{tag}"
    return f"{name.partition('@')[0]}@{digest}" if digest else name


def _without(labels: Mapping[str, str], keys: Collection[str]) -> dict[str, str]:
    return {key: value for key, value in labels.items() if key not in keys}


def _job(job: Mapping[str, Any], image: Mapping[str, str], common: _Common) -> JobShape:
    labels, annotations, user = common
    return JobShape(
        image=_image(job["image"], image),
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
        affinity=MappingProxyType(dict(job["affinity"])),
        runtime_class_name=job["runtimeClassName"],
        labels=MappingProxyType({**_without(labels, SERVER_LABELS), **job["labels"]}),
        annotations=MappingProxyType({**annotations, **job["annotations"]}),
        env=MappingProxyType(dict(job["env"])),
        model_storage=_quantity(job["modelStorage"]),
        gpus=int(job["gpus"]),
        gpu_resource=job["gpuResource"],
        batch=int(job["batch"]),
        user=user,
    )


def _quantity(value: str | float) -> str:
    # As Kubernetes writes numbers: without an exponent, and without the rounding that float arithmetic would add.
    return value if isinstance(value, str) else f"{Decimal(repr(value)):f}".removesuffix(".0")
