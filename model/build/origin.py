"""What a model is made from: a network with its weights, and what timm itself says about pictures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.build.facts import Facts
from model.build.judge import Logits, Pixels
from model.build.pictures import Picture
from model.description import Measured
from model.images import Preprocessing

Run = Callable[[Sequence[Picture], Pixels], Logits]
"""Runs a variant over pictures."""


class Origin(Protocol):
    """A network with its weights."""

    @property
    def facts(self) -> Facts:
        """What is known about it."""

    @property
    def versions(self) -> Mapping[str, str]:
        """The packages that have a say in what timm's logits are, and their versions."""

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of what the network was recorded in, by the names that the model's record gives them."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How timm prepares pictures for it, unless the owner says otherwise."""

    @property
    def timm(self) -> Run | Measured:
        """How the runtime timm runs it, simplified for serving; or how that did elsewhere, if it cannot run here."""

    def pixels(self, data: bytes) -> NDArray[np.float32]:
        """Return timm's own pixels of a picture, of shape ``preprocessing.shape``."""

    def logits(self, pictures: Sequence[Picture]) -> Logits:
        """Return what timm itself says about ``pictures``, from its own pixels: ``(n, classes)``."""

    def save(self, file: Path) -> None:
        """Write the weights, under timm's names, as safetensors."""

    def export(self, file: Path) -> None:
        """Write the network as ONNX: one picture ``(1, *preprocessing.shape)`` in, logits ``(1, classes)`` out.

        Raises ``NotExportable``.
        """

    def ranges(self, how: Preprocessing) -> Path | None:
        """Return the file of the ranges that all values of the exported network have on pictures, prepared in this way.

        None if they must be measured. ``model.build.quantize`` writes and reads such files.
        """
