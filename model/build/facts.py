"""What the source of a network tells about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
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
