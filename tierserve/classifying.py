"""Classifies the pictures that a command was given, and shows or writes what came of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext, suppress
from http import HTTPStatus
from pathlib import Path

from rich.table import Table
from rich.text import Text

from tierserve.errors import BadPicture, Refused, TierserveError
from tierserve.files import Found
from tierserve.live import board
from tierserve.mapping import Outcome
from tierserve.outputs import Output, document
from tierserve.pictures import Picture, name_of
from tierserve.predictions import PredictionFailed
from tierserve.shown import cell, remark, say, show
from tierserve.target import Target

HOPELESS = frozenset({"no_such_tier", "tier_not_allowed"})
"""The codes of refusals that all pictures would get, beside those of a key that does not count."""
MOST_REMARKS = 20


class _Done:
    """What came of the pictures so far."""

    def __init__(self, found: Found, output: Output | None) -> None:
        self._found, self._output = found, output
        self._count = self.failed = 0
        self._kept: list[Outcome] = []
        """All of them, or if they are written to a file the first ones that failed."""

    def add(self, outcome: Outcome) -> None:
        self._count += 1
        self.failed += outcome.error is not None
        if self._output is not None:
            self._output.add(outcome)
        if self._output is None or (outcome.error is not None and len(self._kept) < MOST_REMARKS):
            self._kept.append(outcome)

    def show(self, as_json: bool) -> None:
        """Print it on standard output, in the order of the pictures, or what failed if there is a file of it."""
        self._kept.sort(key=lambda outcome: outcome.index)
        if self._output is not None:
            for outcome in self._kept:
                remark(f"{name_of(outcome.picture)}: {outcome.error}")
        elif as_json:
            for outcome in self._kept:
                say(json.dumps(document(outcome)))
        elif self._kept:
            show(_labels(self._kept))
        self._sum_up()

    def _sum_up(self) -> None:
        total = len(self._found.pictures)
        said = [f"{self._count - self.failed} classified", f"{self.failed} failed"]
        if self._count < total:
            said.append(f"stopped before the other {total - self._count}")
        if total > 1 or self._found.skipped or self._count < total:
            remark(f"{total} pictures: {', '.join(said)}")
        if self._found.skipped:
            remark(self._found.remark)


def classify(
    target: Target, found: Found, tier: str, top_k: int, at_once: int, *, as_json: bool, output: Path | None = None
) -> int:
    """Classify pictures, and print their labels or write them into a file; return how many could not be classified.

    What was done before an error or before Ctrl-C is printed. Raises ``TierserveError`` if the server cannot be asked,
    or refuses all pictures, or if the file cannot be written.
    """
    opened: AbstractContextManager[Output | None] = nullcontext() if output is None else Output(output)
    with opened as file:
        done = _Done(found, file)
        try:
            asyncio.run(_classify(target, found.pictures, tier, top_k, at_once, done))
        finally:
            done.show(as_json)
        return done.failed


async def _classify(
    target: Target, pictures: Sequence[Picture], tier: str, top_k: int, at_once: int, done: _Done
) -> None:
    async with (
        target.client() as client,
        board(tier, len(pictures)) as shown,
        aclosing(client.map(pictures, tier, top_k=top_k, concurrency=at_once, on_event=shown.tell)) as outcomes,
    ):
        async for outcome in outcomes:
            if outcome.error is not None and await _concerns_all(target, outcome.error):
                raise outcome.error
            done.add(outcome)
            shown.end(outcome)


async def _concerns_all(target: Target, error: TierserveError) -> bool:
    """Whether what is wrong with one picture is wrong with all. Raises what the server says, if it is lost."""
    if isinstance(error, (BadPicture, PredictionFailed)):
        return False
    if not isinstance(error, Refused):
        # Is there no server, or does a proxy hang up because one picture is too large for it?
        with suppress(Refused):
            async with target.client() as client:
                await client.tiers()
        return False
    return error.status == HTTPStatus.UNAUTHORIZED or error.code in HOPELESS


def _labels(outcomes: Sequence[Outcome]) -> Table:
    table = Table("file", "label", "score", "ms", caption=_models(outcomes))
    for column in table.columns:
        column.overflow = "fold"
    table.columns[2].justify = table.columns[3].justify = "right"
    for outcome in outcomes:
        name = cell(name_of(outcome.picture))
        if outcome.error or outcome.prediction is None:
            table.add_row(name, cell(str(outcome.error)), "", "", style="red")
            continue
        milliseconds = f"{outcome.prediction.metrics.predict_ms or 0:.0f}"
        for index, label in enumerate(outcome.labels):
            first = (name, milliseconds) if index == 0 else ("", "")
            table.add_row(first[0], cell(label.label), f"{label.score:.3f}", first[1])
    return table


def _models(outcomes: Sequence[Outcome]) -> Text | None:
    """The models that answered, as ``NAME@VERSION``: more than one if the tier's model has changed meanwhile."""
    models = sorted({one.prediction.model for one in outcomes if one.prediction and not one.error})
    return cell(f"by {', '.join(models)}") if models else None
