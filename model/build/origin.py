"""What a model is made from: a network with its weights, and what timm itself says about pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.build.judge import Logits, Pixels
from model.build.pictures import Picture
from model.description import Measured
from model.images import Preprocessing

Run = Callable[[Sequence[Picture], Pixels], Logits]
"""Runs a variant over pictures."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a network."""

    name: str
    """What the model may be called."""
    architecture: str
    """The name of the network in timm, without a tag."""
    arguments: Mapping[str, Any]
    """What ``timm.create_model`` needs beside the name: ``num_classes``, ``in_chans`` and more; fit for JSON."""
    label_names: tuple[str, ...] | None
    """A name for each class, as a dataset has it, such as ``n02123045``."""
    label_descriptions: tuple[str, ...] | None
    """What people call each class."""
    weights: str
    """Where the weights come from."""
    licence: str
    versions: Mapping[str, str]
    """The packages that have a say in what timm's logits are, and their versions."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the files that the network was recorded in, if it was."""


class Origin(Protocol):
    """A network with its weights."""

    @property
    def facts(self) -> Facts:
        """What is known about it."""

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
