"""What is told of the models that tiers serve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.access.keys import time_text
from server.models import Record, shown
from server.queue import Measured, Served, Serving
from server.settings.records import Tier

Measures = Mapping[tuple[str, str], Measured]  # by tier and ``Served.key``


def model_of(tier: Tier, serving: Serving, records: Mapping[str, Record], measures: Measures) -> dict[str, Any]:
    """The model of a tier: what its settings name, what it serves of that, and its canary."""
    choice, canary = tier.model, serving.canary
    return {
        "name": choice.name,
        "variant": choice.variant,
        "runtime": choice.runtime,
        **_version(serving.main, records),
        "measured": _measured(tier.name, serving.main, measures),
        "canary": choice.canary
        and {
            "name": choice.canary.name,
            "percent": choice.canary.percent,
            "live": canary is not None and serving.percent > 0,
            **_version(canary, records),
            "measured": _measured(tier.name, canary, measures),
        },
        "previous": [model.reference for model in serving.previous],
        "instead_of": serving.instead_of or None,
        "problem": serving.problem or None,
    }


def _version(model: Served | None, records: Mapping[str, Record]) -> dict[str, Any]:
    record = records.get(model.reference) if model else None
    return {
        "reference": model and model.reference,
        "version": model and model.reference.partition("@")[2],
        "classes": record and len(record.labels),
        "since": time_text(model.since if model else None),
    }


def _measured(tier: str, model: Served | None, measures: Measures) -> dict[str, Any] | None:
    return shown(measures.get((tier, model.key))) if model else None


def served_models(
    tiers: Mapping[str, Tier], serving: Mapping[str, Serving], records: Mapping[str, Record], measures: Measures
) -> list[dict[str, Any]]:
    """Each model that a tier serves, in the order of the tiers; a main model before its canary."""
    found: dict[str, dict[str, Any]] = {}
    for name in tiers:
        of = serving[name]
        for model, lane, percent in ((of.main, "main", 100 - of.percent), (of.canary, "canary", of.percent)):
            if model is not None:
                told = found.setdefault(model.reference, _model(model, records.get(model.reference)))
                measured = _measured(name, model, measures)
                told["tiers"].append(
                    {"name": name, "lane": lane, "percent": percent, **_run(model), "measured": measured}
                )
    return list(found.values())


def _run(model: Served) -> dict[str, Any]:
    return {"runtime": model.runtime, "variant": model.variant, "since": time_text(model.since)}


def _model(model: Served, record: Record | None) -> dict[str, Any]:
    name, _, version = model.reference.partition("@")
    return {
        "reference": model.reference,
        "name": name,
        "version": version,
        "digest": model.digest,
        "architecture": record and record.architecture,
        "classes": record and len(record.labels),
        "input": record and {"width": record.width, "height": record.height},
        "variants": record
        and [
            {"runtime": one.runtime, "name": one.name, "bytes": one.bytes, "measured": one.measured}
            for one in record.variants
        ],
        "tiers": [],
    }
