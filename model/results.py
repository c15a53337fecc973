"""What a worker hands in: the result of each picture, and of a whole prediction."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.desk import Completion
from model.images import ImageError
from model.messages import Lease
from model.runtimes.base import Model, top


def labelled(logits: NDArray[np.float32], model: Model, lease: Lease) -> dict[str, Any]:
    """Return the result of a picture of this prediction whose classes have these logits, of shape ``(classes,)``."""
    if np.isfinite(logits).all():
        best = top(logits, model.labels, lease.top_k, lease.function)
        return {"labels": [{"label": label, "score": round(score, 6)} for label, score in best]}
    # NaN is no JSON, and a worker that sent it would be ended.
    return {"error": {"code": "model_failed", "detail": "The model's scores for it are not numbers."}}


def unreadable(error: ImageError) -> dict[str, Any]:
    """Return the result of a picture that cannot be decoded."""
    return {"error": {"code": error.code, "detail": error.detail}}


def completion(lease: Lease, model: Model, results: list[dict[str, Any]], began: float) -> Completion:
    """Return the result of a prediction that was begun at ``began``, by ``time.perf_counter()``."""
    return {
        "id": lease.id,
        "token": lease.token,
        "model": model.reference,
        "results": results,
        "predict_ms": round(1000 * (time.perf_counter() - began), 3),
        **({} if lease.function == "softmax" else {"function": lease.function}),
    }
