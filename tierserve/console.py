"""What the commands print of tiers and predictions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from tierserve.predictions import Prediction, Tier
from tierserve.shown import cell, plain_table, say, say_json, show
from tierserve.target import Target


def tiers(target: Target, as_json: bool) -> None:
    """Print the state of the tiers. Raises ``TierserveError``."""
    all_tiers = asyncio.run(_tiers(target))
    found = [dict(one.document) for one in all_tiers]
    if as_json:
        say_json(found)
        return
    # Within a terminal of 80 columns, and the names whole.
    names = ("tier", "model", "waiting", "workers", "room", "cpu", "median wait")
    table = plain_table(*names)
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
    show(table)
    _print_canaries(found)
    _print_lending(all_tiers)
    for tier in found:
        for sentence in (tier["reason"], *_of_model(tier["name"], tier["model"])):
            if sentence:
                say(f"{tier['name']}: {sentence}")


def _print_canaries(tiers: Sequence[dict[str, Any]]) -> None:
    """Print how the models of the tiers with a canary did, one below the other."""
    names = ("tier", "model", "part", "pictures", "failed", "unsure", "p50 ms", "p95 ms")
    table = plain_table(*names)
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
        show(table)


def _print_lending(tiers: Sequence[Tier]) -> None:
    """Print how the tiers stand to their parts of the capacity, if there is one."""
    table = plain_table("tier", "share", "used", "borrowed", "lent", "recalled workers")
    for tier in tiers:
        if one := tier.lending:
            parts = (one.share, one.used, one.borrowed, one.lent)
            _add(table, tier.name, *(f"{100 * part:.3g} %" for part in parts), str(one.recalled))
    if table.rows:
        show(table)


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
        say_json(found)
        return
    # Within a terminal of 80 columns, and the ids whole.
    table = plain_table("created (UTC)", "tier", "status", "ms", "id")
    table.columns[3].justify = "right"
    table.columns[4].no_wrap = True
    for one in found:
        created = one["created_at"][:19].replace("T", " ")
        status = [one["status"], one["error"]["code"]] if one["error"] else [one["status"]]
        took = one["metrics"].get("total_ms")
        _add(table, created, one["tier"], cell(*status), "" if took is None else f"{took:.0f}", one["id"])
    show(table)


async def _predictions(target: Target, limit: int, asked: Mapping[str, str]) -> list[Prediction]:
    async with target.client() as client:
        return await client.predictions(limit=limit, **asked)


def _reference(model: dict[str, Any]) -> str:
    """``NAME@VERSION``, or what the settings name as long as nothing is served."""
    return str(model["reference"] or model["name"])


def _kind(model: dict[str, Any]) -> str:
    """The variant, and how many classes it tells apart, where the server sees the model."""
    return f"{model['variant']}, {model['classes']} classes" if model["classes"] else str(model["variant"])


def _add(table: Table, *cells: str | Text) -> None:
    table.add_row(*(one if isinstance(one, Text) else cell(one) for one in cells))


async def _tiers(target: Target) -> list[Tier]:
    async with target.client() as client:
        return await client.tiers()
