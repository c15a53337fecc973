"""Compare what variants say about pictures with what timm itself says, and with the truth.

Logits have the shape ``(n, classes)``: n pictures, at least one. A picture whose logits are not all finite counts as
wrong.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model.build.pictures import Picture
from model.build.progress import Progress
from model.runtimes.base import softmax

SURE, SURE_TIMES = 0.3, 2.0
"""timm is sure of a picture when its best class has at least this probability, and so many times that of the second.
Otherwise, as on a close-up of gravel, the best class is chance: two good variants differ, and a threshold that allows
for that would be too low to protect."""

FP32_TOLERANCE = 1e-3
"""How far a logit of an fp32 variant may be from timm's: so much, and so large a share of timm's."""

_TOGETHER = 4  # pictures in one pass
_MOST_THREADS = 8  # each of them needs the memory of a pass

Logits = NDArray[np.float32]
Pixels = Callable[[bytes], NDArray[np.float32]]
"""Turns a picture's bytes into an array ``(channels, height, width)``."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How close a variant's logits are to timm's over the same pictures."""

    agreement: float
    """Share of the pictures with the same best class, 0 to 1."""
    sure_agreement: float | None
    """The same over the pictures that timm is sure of; None if there is none."""
    sure: int
    """How many pictures timm is sure of."""
    largest_difference: float
    """The largest difference in any logit of any picture; not a number if a logit is none."""


def judge(reference: Logits, logits: Logits) -> Likeness:
    """Compare logits with timm's for the same pictures."""
    same = (reference.argmax(axis=1) == logits.argmax(axis=1)) & np.isfinite(logits).all(axis=1)
    sure = is_sure(reference)
    return Likeness(
        agreement=float(same.mean()),
        sure_agreement=float(same[sure].mean()) if sure.any() else None,
        sure=int(sure.sum()),
        largest_difference=float(np.abs(reference - logits).max()),
    )


def is_sure(reference: Logits) -> NDArray[np.bool_]:
    """Tell which pictures timm is sure of; returns booleans ``(n,)``. There must be two classes at least."""
    best = np.partition(softmax(reference), -2, axis=1)[:, -2:]
    sure: NDArray[np.bool_] = (best[:, 1] >= SURE) & (best[:, 1] >= SURE_TIMES * best[:, 0])
    return sure


def fp32_fits(reference: Logits, logits: Logits) -> bool:
    """Whether the logits of an fp32 variant are timm's, but for rounding. Numbers that are not finite never fit."""
    return bool(
        reference.shape == logits.shape
        and np.isfinite(logits).all()
        and np.allclose(logits, reference, rtol=FP32_TOLERANCE, atol=FP32_TOLERANCE)
    )


def accuracy(logits: Logits, truth: NDArray[np.int64]) -> tuple[float, float]:
    """Return the shares of the pictures whose true class is the best (top-1), and among the best five (top-5).

    ``truth`` has the class number of each picture, shape ``(n,)``. With at most five classes, top-5 is 1.
    """
    true = logits[np.arange(len(truth)), truth][:, np.newaxis]
    # Classes that tie keep their order, as in the worker's answer.
    first = (logits > true) | ((logits == true) & (np.arange(logits.shape[1]) < truth[:, np.newaxis]))
    rank = np.where(np.isfinite(logits).all(axis=1), first.sum(axis=1), logits.shape[1] + 5)
    return float((rank < 1).mean()), float((rank < 5).mean())


def confusions(
    logits: Logits, truth: NDArray[np.int64], labels: Sequence[str], most: int = 10
) -> list[dict[str, str | int]]:
    """Return the pairs of classes that are confused most often, the worst first, and the number of pictures of each."""
    finite = np.isfinite(logits).all(axis=1)
    pairs = zip(truth[finite].tolist(), logits[finite].argmax(axis=1).tolist(), strict=True)
    counts = Counter(pair for pair in pairs if pair[0] != pair[1])
    worst = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [{"truth": labels[true], "predicted": labels[said], "pictures": count} for (true, said), count in worst]


def onnx_logits(file: Path, pictures: Sequence[Picture], pixels: Pixels, progress: Progress) -> Logits:
    """Run an ONNX file, whose batch is one picture, over pictures, some at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(batch: NDArray[np.float32]) -> Logits:
        return np.concatenate([session.run(None, {name: picture[np.newaxis]})[0] for picture in batch])

    return spread(run, pictures, pixels, progress)


def spread(
    run: Callable[[NDArray[np.float32]], Logits], pictures: Sequence[Picture], pixels: Pixels, progress: Progress
) -> Logits:
    """Prepare pictures and run them, a few at a time, on several threads; join the results."""

    def work(part: Sequence[Picture]) -> Logits:
        return run(np.stack([pixels(picture.read()) for picture in part]))

    parts = [pictures[start : start + _TOGETHER] for start in range(0, len(pictures), _TOGETHER)]
    results = []
    # An error or Ctrl-C in this loop ends it soon: map() cancels what no thread has begun.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as pool:
        for part, result in zip(parts, pool.map(work, parts), strict=True):
            results.append(result)
            progress.advance(len(part))
    return np.concatenate(results)
