"""The libraries that run a model's network: ``onnx`` on CPUs; ``timm`` (torch) on GPUs, and as the reference."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from model import libraries

if TYPE_CHECKING:
    from model.runtimes.base import Runtime

_CLASSES = {"onnx": ("model.runtimes.onnx", "OnnxRuntime"), "timm": ("model.runtimes.timm", "TimmRuntime")}
NAMES = tuple(_CLASSES)
"""What ``named`` takes."""


def named(name: str) -> Runtime:
    """Return a new runtime. Only now its library is imported: ``onnx`` takes tenths of a second, ``timm`` seconds.

    Raises ``ImportError`` if the library is not installed; ``libraries.told`` makes a sentence of it.
    """
    if name == "timm" and (lacking := libraries.missing()) is not None:
        raise ImportError(lacking)
    module, kind = _CLASSES[name]
    runtime: Runtime = getattr(import_module(module), kind)()
    return runtime
