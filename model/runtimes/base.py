"""The interface between the worker and the libraries that run networks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.description import Model, ModelError, Variant, read_model

__all__ = ["Model", "ModelError", "Runtime", "Variant", "read_model", "scores", "softmax", "top"]


class Runtime(ABC):
    """Runs one model: call ``setup`` once, then ``predict`` as often as there are pictures."""

    batches = False
    """Whether several pictures at once may take less time than one after another."""

    @abstractmethod
    def setup(self, model: Model, variant: str, device: str = "cpu") -> None:
        """Load the model's ``variant`` (``fp32`` or ``int8``) on ``device`` (``cpu`` or ``cuda``).

        Raises ``ModelError`` when there is no such variant or device, or the file fails its checksum.
        """

    @abstractmethod
    def predict(self, batch: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Classify pictures as ``model.images.load`` returns them: float32, ``(channels, height, width)`` each.

        Returns one array per picture, in the same order: float32 logits of shape ``(classes,)``.
        ``batch`` may have any length, 0 included.
        """


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn logits into probabilities along the last axis; same shape."""
    # Less the largest logit, which changes no probability: exp() of a large number would overflow.
    powers: NDArray[np.float32] = np.exp(logits - logits.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def scores(logits: NDArray[np.float32], function: str) -> NDArray[np.float32]:
    """Turn logits into scores of the same shape by ``softmax``, ``sigmoid`` or ``none``; else raises ``ValueError``."""
    if function == "softmax":
        return softmax(logits)
    if function == "sigmoid":
        powers: NDArray[np.float32] = np.exp(-np.logaddexp(0, -logits))  # 1 / (1 + exp(-x)), without an overflow
        return powers
    if function == "none":
        return logits
    raise ValueError(f"there is no function {function}")


def top(
    logits: NDArray[np.float32], labels: Sequence[str], k: int, function: str = "softmax"
) -> list[tuple[str, float]]:
    """Return the ``k`` best classes (fewer if there are fewer) as (label, score), best first."""
    order = np.argsort(-logits, kind="stable")[:k]  # stable: classes that tie keep their order
    found = scores(logits, function)
    return [(labels[i], float(found[i])) for i in order]
