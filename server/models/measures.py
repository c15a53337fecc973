"""How the models of tiers do: what this server counts of them, and what is told of what all servers counted."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from server.metrics import ModelFigures
from server.queue import SOFTMAX, Completion, Measured, Serving
from server.time_classes import PARTS, class_of, quantile

ANSWER_SECONDS = 30.0  # longer than the database may take for a statement or a lock
UNSURE = 0.5  # a picture whose best score is less has a result of low confidence
FAILED = "model_failed"  # the code of a picture that the model could not classify
LAST_CLASS = 17 * PARTS  # 131 s, and whatever takes longer

Pair = tuple[str, str]  # a tier, and the ``Served.key`` of a model


@dataclass(slots=True)
class Counts:
    """What one server counted of one model in one tier; ``seconds`` is the sum of the times of its predictions."""

    predictions: int = 0
    pictures: int = 0
    failed: int = 0
    unsure: int = 0
    seconds: float = 0.0
    milliseconds: Counter[int] = field(default_factory=Counter)

    def add(self, completion: Completion) -> None:
        """Count one more."""
        took, results = completion.predict_ms or 0.0, completion.results or ()
        self.predictions += 1
        self.pictures += len(results)
        for result in results:
            if labels := result.get("labels"):
                self.unsure += completion.function == SOFTMAX and labels[0]["score"] < UNSURE
            elif "error" in result:
                self.failed += result["error"]["code"] == FAILED
        self.seconds += took / 1000
        self.milliseconds[class_of(took, LAST_CLASS)] += 1

    def copy(self) -> Counts:
        """One that does not change."""
        times = Counter(self.milliseconds)
        return Counts(self.predictions, self.pictures, self.failed, self.unsure, self.seconds, times)

    def since(self, before: Counts) -> Measured:
        """What was added to ``before``."""
        return Measured(
            predictions=self.predictions - before.predictions,
            pictures=self.pictures - before.pictures,
            failed=self.failed - before.failed,
            unsure=self.unsure - before.unsure,
            milliseconds=self.milliseconds - before.milliseconds,
        )


class Measures:
    """Counts results as they are accepted, and hands them to ``write`` with each ``flush``. Safe from any thread.

    ``serving`` says what a tier serves: of other models nothing is kept once it is written.
    """

    def __init__(
        self, write: Callable[[Sequence[tuple[str, str, Measured]]], Future[None]], serving: Callable[[str], Serving]
    ) -> None:
        self._write, self._serving = write, serving
        self._lock = threading.Lock()
        self._counts: dict[Pair, Counts] = {}
        self._written: dict[Pair, Counts] = {}

    def add(self, tier: str, key: str, completions: Sequence[Completion], outcomes: Sequence[str]) -> None:
        """Count results of a worker that runs the model ``key``, those that were accepted; none if that is empty."""
        accepted = [one for one, outcome in zip(completions, outcomes, strict=True) if outcome == "accepted"]
        if not key or not accepted:
            return
        with self._lock:
            if (counts := self._counts.get((tier, key))) is None:
                counts = self._counts[tier, key] = Counts()
            for one in accepted:
                counts.add(one)

    def flush(self) -> None:
        """Write what was added since the last one. Blocks. Raises what the queue raises, and ``TimeoutError``.

        What could not be written is written with the next one. If only the answer was lost, it is counted twice.
        """
        now = self.counts()
        more = {pair: counts.since(self._written.get(pair, Counts())) for pair, counts in now.items()}
        if rows := [(*pair, measured) for pair, measured in more.items() if measured.predictions]:
            self._write(rows).result(ANSWER_SECONDS)
        self._written = now
        for pair in [pair for pair, measured in more.items() if not measured.predictions]:
            self._forget(pair, now[pair])

    def counts(self) -> dict[Pair, Counts]:
        """What this server has counted since it started, but for models that were served no more."""
        with self._lock:
            return {pair: counts.copy() for pair, counts in self._counts.items()}

    def figures(self, tiers: Iterable[str]) -> list[ModelFigures]:
        """What this server counted of each model, and of those that ``tiers`` serve and that have no result yet."""
        counts = self.counts()
        for tier in tiers:
            serving = self._serving(tier)
            for model in (serving.main, serving.canary):
                if model is not None:
                    counts.setdefault((tier, model.key), Counts())
        return [_figures(tier, key, one) for (tier, key), one in sorted(counts.items(), key=lambda item: item[0])]

    def _forget(self, pair: Pair, seen: Counts) -> None:
        tier, key = pair
        serving = self._serving(tier)
        if any(model and model.key == key for model in (serving.main, serving.canary)):
            return
        with self._lock:
            if self._counts[pair].predictions == seen.predictions:
                del self._counts[pair], self._written[pair]


def _figures(tier: str, key: str, counts: Counts) -> ModelFigures:
    reference, _, variant = key.partition(" ")
    within, many = list[tuple[float, int]](), 0
    for at in range(LAST_CLASS):
        many += counts.milliseconds[at]
        if at % PARTS == 0:
            within.append((2 ** (at // PARTS) / 1000, many))
    within.append((math.inf, counts.predictions))
    return ModelFigures(
        tier=tier,
        model=reference,
        variant=variant,
        predictions=counts.predictions,
        pictures=counts.pictures,
        failed=counts.failed,
        unsure=counts.unsure,
        seconds=counts.seconds,
        within=within,
    )


def shown(measured: Measured | None) -> dict[str, Any]:
    """What is told of how a model did in a tier."""
    one = measured or Measured()
    return {
        "predictions": one.predictions,
        "pictures": one.pictures,
        "failed": one.failed,
        "low_confidence": round(one.unsure / one.pictures, 4) if one.pictures else None,
        "p50_ms": quantile(one.milliseconds, 0.5),
        "p95_ms": quantile(one.milliseconds, 0.95),
    }
