"""Reads the settings from ``chart/values.yaml``, files of values and flags such as ``--set`` into frozen records.

The schema ``values`` checks each value, and ``rules`` what must hold between values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any

from server.settings import documents
from server.settings.documents import Document, DocumentError, Finding, pointer
from server.settings.manifests import SERVER_LABELS
from server.settings.merging import merge, over
from server.settings.overrides import OPTIONS, named, override
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
from server.settings.sources import Files, Sources, Templates, with_more
from server.shipped import DEFAULT_VALUES, TEMPLATES

_Common = tuple[Mapping[str, str], Mapping[str, str], int]
"""The labels and the annotations of every Job, and the user as which it runs."""


def load(
    values: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    base: Path | None = DEFAULT_VALUES,
    templates: Path = TEMPLATES,
) -> Settings:
    """Return the settings of ``base`` with the file ``values`` merged into it, and then ``overrides`` (``a.b.c=v``).

    With ``base=None`` the file ``values`` must be complete, as one that Helm has merged. Raises ``ConfigError``.
    """
    files = Files(() if values is None else (values,), tuple(overrides), base, templates)
    return as_settings(complete(files.read())[0])


def complete(sources: Sources) -> tuple[dict[str, Any], Templates]:
    """Return the values that ``sources`` give, checked and with every default filled in, and all Job templates.

    Raises ``ConfigError``.
    """
    document, order = merged(sources)
    if findings := documents.validate(document, "values"):
        findings = [_with_advice(finding) for finding in findings]
        findings += [_finding(document, order, found) for found in bad_forms(document.value)]
        raise ConfigError(sorted(findings, key=lambda finding: (finding.line, finding.pointer)))
    values: dict[str, Any] = documents.filled(document.value, "values")
    texts = values["jobTemplates"]
    places = {name: f"{document.location(at).file} ({at})" for name in texts for at in [pointer("jobTemplates", name)]}
    templates = with_more(sources.templates, texts, places)
    # What only the chart reads is judged as it stands: there null takes a default away.
    judged = {**document.value, "server": values["server"], "tiers": enabled(values["tiers"])}
    if broken := list(broken_rules(judged, templates.texts.keys() | templates.unusable.keys())):
        raise ConfigError([_finding(document, order, found) for found in broken])
    return values, templates


def merged(sources: Sources) -> tuple[Document, Sequence[str]]:
    """Return all that ``sources`` say as one document, and the names of its parts from the first to the last.

    Raises ``ConfigError``.
    """

    def read(name: str) -> str:
        return sources.attached[name]

    try:
        base, *files = [documents.parse(text, file, aliases=True) for file, text in sources.layers]
        user = reduce(merge, files, Document({}, base.file, {}))
        flags = [*(("set", text) for text in sources.overrides), *sources.typed]
        flags.sort(key=lambda flag: OPTIONS.index(flag[0]))
        for option, text in flags if isinstance(user.value, dict) else ():  # else the schema says what is wrong
            user = override(user, option, text, read)
    except DocumentError as error:
        raise ConfigError(error.findings) from error
    order = [layer.file for layer in (base, *files)] + [named(*flag) for flag in flags]
    return over(base, user), order


def _with_advice(finding: Finding) -> Finding:
    """Say what helps where ``--set``, as Helm has it, reads something else than what was meant."""
    if finding.rule != "type" or not finding.file.startswith("--set "):
        return finding
    advice = "--set makes whole numbers, true, false, null and text; --set-string and --set-json make others"
    return replace(finding, message=f"{finding.message}: {advice}")


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
    capacity = _quantities(values["capacity"])
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
            {name: _tier(name, tier, capacity, image, common) for name, tier in enabled(values["tiers"]).items()}
        ),
        capacity=MappingProxyType(capacity),
    )


def _tier(
    name: str, values: Mapping[str, Any], capacity: Mapping[str, str], image: Mapping[str, str], common: _Common
) -> Tier:
    job, limits, waits = values["job"], values["limits"], values["waits"]
    return Tier(
        name=name,
        namespace=values["namespace"]["name"],
        template=values["template"],
        model=_model(values["model"]),
        quota=MappingProxyType({**capacity, **_quantities(values["quota"])}),
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
        share=int(values["share"]),
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


def _quantities(values: Mapping[str, str | float]) -> dict[str, str]:
    return {key: _quantity(value) for key, value in values.items()}


def _quantity(value: str | float) -> str:
    # As Kubernetes writes numbers: without an exponent, and without the rounding that float arithmetic would add.
    return value if isinstance(value, str) else f"{Decimal(repr(value)):f}".removesuffix(".0")
