"""Which libraries are missing, and how to install them. Only the extra ``timm`` brings torch and timm."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

_MODULES = ("torch", "timm")
_ROOT = Path(__file__).parents[1]  # of a checkout, of site-packages, or of an image of workers
SIZE = "3 GB to download, 5.6 GB on the disk"
"""What the extra takes, with CUDA, as PyPI has it for Linux (torch 2.15); measured with an empty cache."""


def missing(*also: str) -> str | None:
    """Return in one line what is missing, how large it is and how to install it; None if torch and timm are there.

    ``also`` names further modules that the extra brings and the caller needs. Nothing is imported.
    """
    absent = [name for name in (*_MODULES, *also) if find_spec(name) is None]
    if not absent:
        return None
    *others, last = absent
    what = f"{', '.join(others)} and {last} are" if others else f"{last} is"
    what += " not installed here"
    if not (_ROOT / "model" / "build").is_dir():
        return f"{what}: this image of workers has ONNX Runtime only, so give the tier's Jobs the image worker-timm"
    # The environment that make fills, and no other one that happens to use the files of a checkout.
    ours = (_ROOT / "Makefile").is_file() and Path(sys.prefix).resolve() == (_ROOT / ".venv").resolve()
    return f"{what} ({SIZE}); install with: " + ("make timm" if ours else "pip install 'tierserve[timm]'")


def told(error: ImportError) -> str:
    """Say in one line what to do about a library that could not be imported."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed here; install with: pip install 'tierserve[worker]'"
    return str(error)
