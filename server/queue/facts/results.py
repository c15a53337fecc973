"""What the results of a prediction can be. A worker that sends others is broken, or lies."""

from __future__ import annotations

import math
from typing import Any

from server.queue.facts.records import NONE, Completion

# As JSON: a result may be an error with its detail, or labels with their scores.
RESULT_BYTES, LABEL_BYTES = 4096, 512
SCORE_MOST = 1.001  # but for rounding a score is 1 at most, where it is no logit


def fault(asked: Any, completion: Completion, results: str, model: str = "") -> str:
    """Why a worker's results cannot be those of a prediction; empty if they can.

    ``asked`` is its submission, or its row. ``results`` are those of the completion as JSON. ``model`` is NAME@VERSION
    of the worker's Job, if that is known.
    """
    given = completion.results
    if given is None:
        return ""
    if model and completion.model != model:
        return f"it names the model {completion.model}, its Job has {model}"
    if completion.function != asked.function:
        return f"its scores were made by {completion.function}, {asked.function} was asked for"
    if len(given) != asked.images:
        return f"it has {len(given)} results for {asked.images} pictures"
    labels = [result.get("labels", ()) for result in given]
    if (most := max(map(len, labels), default=0)) > asked.top_k:
        return f"a picture has {most} labels, {asked.top_k} were asked for"
    figures = [label["score"] for of_one in labels for label in of_one]
    if not all(map(math.isfinite, [*figures, completion.predict_ms or 0.0])):
        return "a figure is not finite"
    if asked.function != NONE and not all(0 <= figure <= SCORE_MOST for figure in figures):
        return "a score is not from 0 to 1"
    if len(results) > (limit := asked.images * (RESULT_BYTES + LABEL_BYTES * asked.top_k)):
        return f"it has {len(results)} bytes, {limit} are allowed"
    return ""
