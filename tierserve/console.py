"""The output of the client commands."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tierserve.aio import AsyncClient
from tierserve.errors import Refused, Unreachable
from tierserve.live import board
from tierserve.mapping import Outcome
from tierserve.predictions import Prediction, Tier
from tierserve.shown import cell


@dataclass(frozen=True, slots=True)
class Target:
    """The server that is asked, and the key that it gets, if any."""

    url: str
    key: str = field(default="", repr=False)

    def client(self) -> AsyncClient:
        """A client of that server. Raises ``Misconfigured`` if the URL cannot be one."""
        return AsyncClient(self.url, self.key)


def classify(target: Target, tier: str, pictures: Sequence[Path], top_k: int, at_once: int, as_json: bool) -> int:
    """Classify pictures and print their labels; return how many could not be classified.

    Raises ``TierserveError`` if the server cannot be asked.
    """
    outcomes = asyncio.run(_classify(target, tier, pictures, top_k, at_once))
    if as_json:
        for outcome in outcomes:
            print(json.dumps({"file": str(outcome.picture), **_document(outcome)}))  # noqa: T201
    else:
        _print_labels(outcomes)
    return sum(outcome.error is not None for outcome in outcomes)


async def _classify(target: Target, tier: str, pictures: Sequence[Path], top_k: int, at_once: int) -> list[Outcome]:
    outcomes = []
    async with target.client() as client, board(tier, len(pictures)) as shown:
        async for outcome in client.map(pictures, tier, top_k=top_k, concurrency=at_once, on_event=shown.tell):
            if isinstance(outcome.error, Unreachable):
                raise outcome.error
            outcomes.append(outcome)
            shown.end(outcome)
    return sorted(outcomes, key=lambda outcome: outcome.index)


def _document(outcome: Outcome) -> Mapping[str, Any]:
    """The prediction, or the problem instead of one, as the server sent it."""
    if outcome.prediction is not None:
        return outcome.prediction.document
    if isinstance(outcome.error, Refused):
        return outcome.error.document
    return {"detail": str(outcome.error)}


def _print_labels(outcomes: Sequence[Outcome]) -> None:
    table = Table("file", "label", "score", "ms", caption=_models(outcomes))
    table.columns[2].justify = table.columns[3].justify = "right"
    for outcome in outcomes:
        name = str(outcome.picture)
        if outcome.error or outcome.prediction is None:
            _add(table, name, str(outcome.error), "", "", style="red")
            continue
        milliseconds = f"{outcome.prediction.metrics.predict_ms or 0:.0f}"
        for index, label in enumerate(outcome.labels):
            first = index == 0
            _add(table, name if first else "", label.label, f"{label.score:.3f}", milliseconds if first else "")
    _print(table)


def _models(outcomes: Sequence[Outcome]) -> Text | None:
    """The models that answered, as ``NAME@VERSION``: more than one if the tier's model has changed meanwhile."""
    models = sorted({one.prediction.model for one in outcomes if one.prediction and not one.error})
    return cell(f"by {', '.join(models)}") if models else None


def _print(table: Table) -> None:
    # A label may have any character, also one that the terminal's encoding has not.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    Console().print(table)


def tiers(target: Target, as_json: bool) -> None:
    """Print the state of the tiers. Raises ``TierserveError``."""
    found = [dict(one.document) for one in asyncio.run(_tiers(target))]
    if as_json:
        print(json.dumps(found, indent=2))  # noqa: T201
        return
    # Within a terminal of 80 columns, and the names whole.
    names = ("tier", "model", "waiting", "workers", "room", "cpu", "median wait")
    table = Table(*names, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in table.columns[:5]:
        column.no_wrap = True
    for tier in found:
        cpu, wait = tier["quota"].get("cpu"), tier["wait_seconds"]["p50"]
        _add(
            table,
            tier["name"],
            cell(_reference(tier["model"]), _kind(tier["model"])),
            str(tier["queued"]),
            str(tier["workers"]),
            str(tier["room"]),
            f"{cpu['used']:g} of {cpu['hard']:g}" if cpu else "",
            "" if wait is None else f"{wait:.2f} s",
        )
    _print(table)
    _print_canaries(found)
    for tier in found:
        for sentence in (tier["reason"], *_of_model(tier["name"], tier["model"])):
            if sentence:
                Console().print(cell(f"{tier['name']}: {sentence}"), soft_wrap=True)


def _print_canaries(tiers: Sequence[dict[str, Any]]) -> None:
    """Print how the models of the tiers with a canary did, one below the other."""
    names = ("tier", "model", "part", "pictures", "failed", "unsure", "p50 ms", "p95 ms")
    table = Table(*names, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for tier in tiers:
        if (canary := tier["model"].get("canary")) is None:
            continue
        part = canary["percent"] if canary["live"] else 0
        for name, model, percent in ((tier["name"], tier["model"], 100 - part), ("", canary, part)):
            how = model["measured"] or {}
            unsure = how.get("low_confidence")
            _add(
                table,
                name,
                model["reference"] or model["name"],
                f"{percent:g} %",
                *(str(how.get(key, "")) for key in ("pictures", "failed")),
                "" if unsure is None else f"{unsure:.1%}",
                *("" if how.get(key) is None else f"{how[key]:.3g}" for key in ("p50_ms", "p95_ms")),
            )
    if table.rows:
        _print(table)


def _of_model(tier: str, model: dict[str, Any]) -> tuple[str | None, ...]:
    """What is to be said of a tier's model: that it was rolled back, and what is wrong."""
    named = model.get("instead_of")
    undo = f"tierserve model rollback {tier} --undo"
    back = f"it was rolled back to {model['reference']}. To serve {named} again: {undo}" if named else None
    return back, model.get("problem")


def predictions(target: Target, limit: int, asked: Mapping[str, str], as_json: bool) -> None:
    """Print the predictions of the key's owner, the newest first. Raises ``TierserveError``."""
    found = [dict(one.document) for one in asyncio.run(_predictions(target, limit, asked))]
    if as_json:
        print(json.dumps(found, indent=2))  # noqa: T201
        return
    # Within a terminal of 80 columns, and the ids whole.
    table = Table("created (UTC)", "tier", "status", "ms", "id", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.columns[3].justify = "right"
    table.columns[4].no_wrap = True
    for one in found:
        created = one["created_at"][:19].replace("T", " ")
        status = [one["status"], one["error"]["code"]] if one["error"] else [one["status"]]
        took = one["metrics"].get("total_ms")
        _add(table, created, one["tier"], cell(*status), "" if took is None else f"{took:.0f}", one["id"])
    _print(table)


async def _predictions(target: Target, limit: int, asked: Mapping[str, str]) -> list[Prediction]:
    async with target.client() as client:
        return await client.predictions(limit=limit, **asked)


def _reference(model: dict[str, Any]) -> str:
    """``NAME@VERSION``, or what the settings name as long as nothing is served."""
    return str(model["reference"] or model["name"])


def _kind(model: dict[str, Any]) -> str:
    """The variant, and how many classes it tells apart, where the server sees the model."""
    return f"{model['variant']}, {model['classes']} classes" if model["classes"] else str(model["variant"])


def _add(table: Table, *cells: str | Text, style: str = "") -> None:
    table.add_row(*(one if isinstance(one, Text) else cell(one) for one in cells), style=style)


async def _tiers(target: Target) -> list[Tier]:
    async with target.client() as client:
        return await client.tiers()
