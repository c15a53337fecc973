"""What the results of a prediction can be. A worker that sends others is broken, or lies."""

from __future__ import annotations

import math

from server.queue.facts.records import Completion

# As JSON: a result may be an error with its detail, or labels with their scores.
RESULT_BYTES, LABEL_BYTES = 4096, 512


def fault(images: int, top_k: int, completion: Completion, results: str, model: str = "") -> str:
    """Why a worker's results are none for a prediction of so many pictures and labels each; empty if they are.

    ``results`` are those of the completion as JSON. ``model`` is NAME@VERSION of the worker's Job, if that is known.
    """
    given = completion.results
    if given is None:
        return ""
    if model and completion.model != model:
        return f"it names the model {completion.model}, its Job has {model}"
    if len(given) != images:
        return f"it has {len(given)} results for {images} pictures"
    labels = [result.get("labels", ()) for result in given]
    if (most := max(map(len, labels), default=0)) > top_k:
        return f"a picture has {most} labels, {top_k} were asked for"
    figures = [label["score"] for of_one in labels for label in of_one]
    if not all(map(math.isfinite, [*figures, completion.predict_ms or 0.0])):
        return "a figure is not finite"
    if len(results) > (limit := images * (RESULT_BYTES + LABEL_BYTES * top_k)):
        return f"it has {len(results)} bytes, {limit} are allowed"
    return ""
