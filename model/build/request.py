"""What is to be built."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUILDER_VERSION = 3
"""To be raised whenever a build gives other files than before: the default models are then built again."""

PICTURES = 1000
"""So many of the owner's pictures are used, if there are more."""

REQUIRABLE = ("onnx", "int8")


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be built."""

    source: str
    """A timm name with packaged weights, ``hf-hub:OWNER/NAME``, a folder or a zip file as timm's hub has it, or a file
    of weights."""
    name: str | None = None
    """What the model is called; None: as its source."""
    labels: Path | None = None
    """A file with the names of the classes."""
    data: Path | None = None
    """A folder with the owner's pictures."""
    architecture: str | None = None
    """timm's name of the network, if the source does not tell."""
    use_ema: bool = False
    """Take the averaged weights of a checkpoint."""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    """What of the preprocessing is given: ``mean``, ``std``, ``input_size``, ``crop_pct``, ``crop_mode``,
    ``interpolation``, as timm calls them, and ``background``, a colour."""
    pictures: int = PICTURES
    """How many pictures of ``data`` are used at most."""
    require: tuple[str, ...] = ()
    """What must not be left out: ``onnx``, ``int8``."""
    tags: tuple[str, ...] = ()
    """Tags that the model gets."""
