"""Pictures whose right label is known. Each ends in some bytes of its own, which decoders ignore."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

from tests.running import ROOT

FOLDER = ROOT / "model" / "pictures"
POISON, SLOW = b"poison", b"slow.."
MARK = len(POISON)
NONCE = 16
NAMES = ("cat", "clock", "espresso", "rocket", "brick", "retina")


@dataclass(frozen=True, slots=True)
class Picture:
    """``name`` is the known picture it was made of; ``mark`` makes tests.faults.worker die of it or be slow."""

    name: str
    data: bytes
    mark: bytes = bytes(MARK)

    @property
    def digest(self) -> str:
        """Tells it from any other."""
        return digest(self.data)


class Pictures:
    """``labels`` and ``scores``: what the default model of the tier free says of each of the known pictures."""

    def __init__(self, models: Path) -> None:
        self._bases = {name: (FOLDER / f"{name}.jpg").read_bytes() for name in NAMES}
        best = _classified(models, self._bases)
        self.labels = {name: label for name, (label, _) in best.items()}
        self.scores = {name: score for name, (_, score) in best.items()}
        self._names = {digest(base): name for name, base in self._bases.items()}

    def make(self, chance: random.Random, mark: bytes = bytes(MARK)) -> Picture:
        """One that was never there before."""
        name = chance.choice(NAMES)
        return Picture(name, self._bases[name] + chance.randbytes(NONCE) + mark, mark)

    def label(self, data: bytes | memoryview) -> str:
        """The right label."""
        return self.labels[self._names[digest(bytes(data[: -NONCE - MARK]))]]


def digest(data: bytes | memoryview) -> str:
    """A short name for bytes."""
    return hashlib.sha256(data).hexdigest()[:16]


def _classified(models: Path, pictures: dict[str, bytes]) -> dict[str, tuple[str, float]]:
    from model.connection import Lease
    from model.runtimes.base import read_model
    from model.runtimes.onnx import OnnxRuntime
    from model.worker import predict

    model, runtime = read_model(models / "tf_efficientnet_lite0"), OnnxRuntime()
    runtime.setup(model, "int8")
    found = {}
    for name, data in pictures.items():
        lease = Lease(id="", token="", top_k=1, renew=0.0, pictures=(memoryview(data),))
        done = predict(lease, model, runtime, 24_000_000)
        best = done["results"][0]["labels"][0]
        found[name] = best["label"], best["score"]
    return found
