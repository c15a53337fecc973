"""A network that timm and torch run: whatever the owner has."""

import importlib.metadata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from model.build import export, judge, sources, transforms
from model.build.judge import Logits, Pixels
from model.build.origin import Run
from model.build.pictures import Picture
from model.build.progress import Progress
from model.build.request import Request
from model.images import Preprocessing

_PACKAGES = ("timm", "torch")


class Loaded:
    """An ``Origin`` that runs timm's own network."""

    def __init__(self, request: Request, progress: Progress) -> None:
        """Load the network of a request. Raises ``BuildError``."""
        self._progress = progress
        self.facts = sources.load(
            request.source, architecture=request.architecture, use_ema=request.use_ema, progress=progress
        )
        self.network = self.facts.network
        self.preprocessing = transforms.preprocessing(self.network, self.facts.data, request.preprocessing)
        self.versions = {package: importlib.metadata.version(package) for package in _PACKAGES}
        self.digests: dict[str, str] = {}

    @cached_property
    def _served(self) -> torch.nn.Module:
        return export.simplified(self.network, self.preprocessing.shape)

    @property
    def timm(self) -> Run:
        """How the runtime timm runs it."""
        return lambda some, pixels: torch_logits(self._served, some, pixels, self._progress)

    def pixels(self, data: bytes) -> NDArray[np.float32]:
        """Return timm's own pixels of a picture, of the shape that the network takes."""
        return transforms.reference(data, self.preprocessing)

    def logits(self, pictures: Sequence[Picture]) -> Logits:
        """Return what timm itself says about ``pictures``: ``(n, classes)``."""
        return torch_logits(self.network, pictures, self.pixels, self._progress)

    def save(self, file: Path) -> None:
        """Write the weights as safetensors, under the names that the runtime timm looks for."""
        save_file({key: tensor.contiguous().clone() for key, tensor in self.network.state_dict().items()}, file)

    def export(self, file: Path) -> None:
        """Write the network as ONNX. Raises ``NotExportable``."""
        export.export(self._served, self.preprocessing.shape, file)

    def ranges(self, how: Preprocessing) -> None:
        """Nobody has measured them."""


def torch_logits(network: torch.nn.Module, pictures: Sequence[Picture], pixels: Pixels, progress: Progress) -> Logits:
    """Run a network over pictures, some at a time; ``network`` is in evaluation mode.

    Its parameters get the order "channels last": several pictures at a time are then three times as fast.
    """
    network.to(memory_format=torch.channels_last)

    def run(batch: NDArray[np.float32]) -> Logits:
        with torch.no_grad():
            inputs = torch.from_numpy(batch).to(memory_format=torch.channels_last)
            logits: Logits = network(inputs).float().numpy()
        return logits

    # torch's own threads wait for each other at every layer: on a busy machine that is up to 15 times as slow.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return judge.spread(run, pictures, pixels, progress)
    finally:
        torch.set_num_threads(threads)
