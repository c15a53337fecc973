"""Pictures whose right label is known. Each ends with bytes that make it unique and that decoders ignore."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

from tests.running import ROOT

FOLDER = ROOT / "model" / "pictures"
POISON, SLOW, SLOWER = b"poison", b"slow..", b"slower"
MARK = len(POISON)
NONCE = 16
NAMES = ("cat", "clock", "espresso", "rocket", "brick", "retina")


@dataclass(frozen=True, slots=True)
class Picture:
    """``name`` is the known picture it was made from. By its ``mark``, tests.faults.worker dies of it or is slow."""

    name: str
    data: bytes
    mark: bytes = bytes(MARK)

    @property
    def digest(self) -> str:
        """A short hash that no other picture has."""
        return digest(self.data)


class Pictures:
    """Makes pictures. ``labels`` and ``scores`` are what the model of the tier free says of each known picture."""

    def __init__(self, models: Path) -> None:
        self._bases = {name: (FOLDER / f"{name}.jpg").read_bytes() for name in NAMES}
        best = _classified(models, self._bases)
        self.labels = {name: label for name, (label, _) in best.items()}
        self.scores = {name: score for name, (_, score) in best.items()}
        self._names = {digest(base): name for name, base in self._bases.items()}

    def make(self, chance: random.Random, mark: bytes = bytes(MARK)) -> Picture:
        """A picture that never existed before."""
        name = chance.choice(NAMES)
        return Picture(name=name, data=self._bases[name] + chance.randbytes(NONCE) + mark, mark=mark)

    def label(self, data: bytes | memoryview) -> str:
        """The right label of a picture."""
        return self.labels[self._names[digest(bytes(data[: -NONCE - MARK]))]]


def digest(data: bytes | memoryview) -> str:
    """A short hash of bytes."""
    return hashlib.sha256(data).hexdigest()[:16]


def _classified(models: Path, pictures: dict[str, bytes]) -> dict[str, tuple[str, float]]:
    from model.decoder import Decoder
    from model.messages import Lease
    from model.runtimes.base import read_model
    from model.runtimes.onnx import OnnxRuntime
    from model.worker import PICTURE_SECONDS, predict

    model, runtime = read_model(models / "tf_efficientnet_lite0"), OnnxRuntime()
    runtime.setup(model, "int8")
    decoder = Decoder(model.preprocessing, 24_000_000, PICTURE_SECONDS)
    found = {}
    for name, data in pictures.items():
        lease = Lease(id="", token="", top_k=1, pictures=(memoryview(data),))
        done = predict(lease, model, runtime, decoder)
        best = done["results"][0]["labels"][0]
        found[name] = best["label"], best["score"]
    decoder.close()
    return found
