"""What is good enough to be served, and what a model's record says about how it was judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.build import judge
from model.build.files import printable
from model.build.judge import Logits
from model.build.pictures import Picture

LEAST_FAST_AGREEMENT = 0.995
"""The share of the pictures for which fast pixels must lead to timm's best class; otherwise timm's own are taken."""
LEAST_INT8_AGREEMENT = 0.90
"""The share of the pictures that timm is sure of for which int8 must find timm's best class, if no class is known."""
MOST_INT8_LOSS = 0.01
"""How much of timm's top-1 accuracy int8 may lose, if the classes are known."""


@dataclass(frozen=True, slots=True)
class Judges:
    """The pictures that a model is built and judged with, and what timm itself says about those that judge."""

    calibration: Sequence[Picture]
    judging: Sequence[Picture]
    truth: NDArray[np.int64] | None
    own: bool
    """Whether they are the owner's."""
    reference: Logits
    """timm's logits for ``judging``, from timm's own pixels: ``(n, classes)``."""


def changed(judges: Judges, logits: Logits) -> float:
    """Return the share of the pictures whose best class is not timm's in ``logits``."""
    differs = logits.argmax(axis=1) != judges.reference.argmax(axis=1)
    # On our own pictures, which show none of the owner's classes, a best class of which timm is not sure is chance.
    counted = differs if judges.own else differs[judge.is_sure(judges.reference)]
    return float(counted.mean()) if counted.size else 0.0


def int8_fault(judges: Judges, logits: Logits) -> str:
    """Say why an int8 variant is not good enough; an empty text if it is."""
    if not np.isfinite(logits).all():
        return "it gives numbers that are not finite."
    if judges.truth is not None:
        timm_top1, _ = judge.accuracy(judges.reference, judges.truth)
        top1, _ = judge.accuracy(logits, judges.truth)
        if timm_top1 - top1 <= MOST_INT8_LOSS + 1e-9:
            return ""
        return (
            f"its top-1 accuracy is {top1:.1%}, and timm's {timm_top1:.1%}; it may lose "
            f"{100 * MOST_INT8_LOSS:g} percentage point."
        )
    like = judge.judge(judges.reference, logits)
    if like.sure_agreement is None:
        return "timm is sure of none of the pictures, so it could not be judged; give pictures with --data."
    if like.sure_agreement >= LEAST_INT8_AGREEMENT:
        return ""
    return (
        f"it finds timm's best class for {like.sure_agreement:.1%} of the {like.sure} pictures that timm is sure of; "
        f"at least {LEAST_INT8_AGREEMENT:.0%} is required."
    )


def told(data: Path | None, judges: Judges, logits: Logits, names: Sequence[str], changed: float) -> dict[str, Any]:
    """What ``model.json`` says about the pictures of ``data`` that judged the best variant, whose logits are given."""
    facts: dict[str, Any] = {
        "data": printable(data.resolve().name) if data is not None else "own pictures",
        "pictures": len(judges.judging),
        "calibrated_with": len(judges.calibration),
        "sure": int(judge.is_sure(judges.reference).sum()),
        "fast_path": {"changed": changed},
        "timm": {"top1": None, "top5": None},
        "confusions": [],
    }
    if judges.truth is not None:
        top1, top5 = judge.accuracy(judges.reference, judges.truth)
        facts["timm"] = {"top1": top1, "top5": top5}
        facts["confusions"] = judge.confusions(logits, judges.truth, names)
    return facts
