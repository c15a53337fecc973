"""A default model's network as it was recorded from timm: its graph, its classes and what timm says about pictures.

``model/defaults/NAME`` has four files, which ``model.build.recording`` makes: ``graph.onnx``, the exported network
without its weights; ``ranges.json``, the ranges of all values on the pictures that calibrate; ``logits.npz``, timm's
logits for the pictures that judge; and ``network.json``, what else a build needs. The weights come from a package.
``network.json`` has the SHA-256 of their file, and where in it each tensor lies, so nothing of the file is unpickled.
"""

import hashlib
import importlib.metadata
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from safetensors.numpy import save_file

from model.build.errors import BuildError
from model.build.facts import Facts
from model.build.judge import Logits
from model.build.packages import LICENCE, PACKAGES, weights_of
from model.build.pictures import MOST_PIXELS, Picture
from model.build.progress import Progress
from model.description import Measured, file_digest, preprocessing_of
from model.images import Preprocessing, load

DEFAULTS = Path(__file__).parents[1] / "defaults"
GRAPH, LOGITS, NETWORK, RANGES = "graph.onnx", "logits.npz", "network.json", "ranges.json"

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Fold:
    """A batch norm that belongs into the convolution before it."""

    convolution: str
    norm: str
    epsilon: float


class Recorded:
    """An ``Origin`` that needs neither timm nor torch."""

    def __init__(self, name: str, progress: Progress) -> None:
        """Read the recorded network ``name`` and its weights. Raises ``BuildError``."""
        self._folder, self._progress = DEFAULTS / name, progress
        network = json.loads((self._folder / NETWORK).read_bytes())
        file, called = weights_of(name)
        self._weights = _tensors(file, called, network["weights"], PACKAGES[name])
        self._folds = [Fold(*fold) for fold in network["folds"]]
        self._pictures, self._pillow = network["pictures"], network["versions"]["pillow"]
        self.preprocessing = preprocessing_of(network["preprocessing"])
        self.timm = Measured(**network["timm"])
        self.facts = Facts(
            name=name,
            architecture=network["architecture"],
            arguments=network["arguments"],
            label_names=None,
            label_descriptions=tuple(network["labels"]),
            weights=called,
            licence=LICENCE,
        )
        self.versions = {package: network["versions"][package] for package in ("timm", "torch")}
        self.digests = {
            "weights_sha256": network["weights"]["sha256"],
            "graph_sha256": file_digest(self._folder / GRAPH),
        }

    def pixels(self, data: bytes) -> NDArray[np.float32]:
        """Return timm's own pixels of a picture, of the shape that the network takes."""
        return load(data, replace(self.preprocessing, faithful=True), MOST_PIXELS)

    def logits(self, pictures: Sequence[Picture]) -> Logits:
        """Return what timm said about ``pictures``, which must be those of the recording: ``(n, classes)``."""
        if digest_of_pictures(pictures) != self._pictures:
            raise BuildError(
                f"Pillow {importlib.metadata.version('pillow')} makes other test pictures than Pillow {self._pillow}, "
                f"with which timm's logits were recorded: pip install pillow=={self._pillow}"
            )
        self._progress.advance(len(pictures))
        with np.load(self._folder / LOGITS) as recorded:
            logits: Logits = recorded["logits"]
        return logits

    def save(self, file: Path) -> None:
        """Write the weights as safetensors, under the names that the runtime timm looks for."""
        save_file(self._weights, file)

    def export(self, file: Path) -> None:
        """Write the graph with its weights, the batch norms folded into the convolutions, as ONNX."""
        fill(self._folder / GRAPH, self._weights, self._folds, file)

    def ranges(self, how: Preprocessing) -> Path | None:
        """Return the file of the recorded ranges, if they were measured on pixels that are prepared in this way."""
        return self._folder / RANGES if how == self.preprocessing else None


def digest_of_pictures(pictures: Sequence[Picture]) -> str:
    """Return the SHA-256 of the bytes of all pictures, hexadecimal."""
    return hashlib.sha256(b"".join(hashlib.sha256(picture.read()).digest() for picture in pictures)).hexdigest()


def fill(graph: Path, weights: Tensors, folds: Sequence[Fold], file: Path) -> None:
    """Write the ONNX file ``graph``, whose weights were removed, with the weights folded as ``fold`` does it."""
    folded = fold(weights, folds)
    model = onnx.load(graph)
    for tensor in model.graph.initializer:
        if not tensor.raw_data:
            tensor.raw_data = folded[tensor.name].tobytes()
    file.write_bytes(model.SerializeToString(deterministic=True))


def fold(weights: Tensors, folds: Sequence[Fold]) -> Tensors:
    """Return the weights, and the biases of the convolutions, after each batch norm of ``folds`` was folded."""
    folded = dict(weights)
    for each in folds:
        mean, variance, scale, shift = (
            weights[f"{each.norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        scale = scale / np.sqrt(variance + np.float32(each.epsilon))
        kernel = weights[f"{each.convolution}.weight"]
        bias = weights.get(f"{each.convolution}.bias", np.float32(0))
        folded[f"{each.convolution}.weight"] = kernel * scale.reshape(-1, 1, 1, 1)
        folded[f"{each.convolution}.bias"] = (bias - mean) * scale + shift
    return folded


def _tensors(file: Path, called: str, recorded: dict[str, Any], package: str) -> Tensors:
    """Read the tensors of a file whose SHA-256 is that of the recording, which tells where each of them lies."""
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != recorded["sha256"]:
        raise BuildError(f"{called} is not the file that was recorded: pip install {package}=={recorded['version']}")
    return {
        name: np.ascontiguousarray(
            np.frombuffer(data, dtype, math.prod(shape), offset).reshape(shape).transpose(axes)
        ).reshape([shape[axis] for axis in axes])
        for name, (offset, dtype, shape, axes) in recorded["tensors"].items()
    }
