"""Whether torch and timm are there. Only the extra ``timm`` brings them: the default models need neither."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

_MODULES = ("torch", "timm")
SIZE = "3 GB to download, 5.3 GB on the disk"
"""What the extra takes, with CUDA, as PyPI has it for Linux (torch 2.15); measured with an empty cache."""


def missing(root: Path = Path(__file__).parents[1]) -> str | None:
    """Return in one line what is missing, how large it is and how to install it; None if torch and timm are there.

    Nothing is imported. ``root`` is the folder in which the package ``model`` lies.
    """
    absent = [name for name in _MODULES if find_spec(name) is None]
    if not absent:
        return None
    what = f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed here"
    if not (root / "model" / "build").is_dir():
        return f"{what}: this image of workers has ONNX Runtime only, so give the tier's Jobs the image worker-timm"
    # The environment that make fills, and no other one that happens to use the files of a checkout.
    ours = (root / "Makefile").is_file() and Path(sys.prefix).resolve() == (root / ".venv").resolve()
    return f"{what} ({SIZE}); install with: " + ("make timm" if ours else "pip install 'tierserve[timm]'")
