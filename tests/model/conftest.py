"""The default models, built once, and the picture of the cat."""

import os
from pathlib import Path

import pytest
from PIL import Image

from model.build.builder import DEFAULT_MODELS, build
from model.build.request import Request
from tests.model.build.told import Told

REPOSITORY = Path(__file__).parents[2]
PICTURES = REPOSITORY / "model" / "pictures"


@pytest.fixture(scope="session")
def models() -> Path:
    """The directory with the default models. ``make`` fills it; if it has not, this does."""
    output = Path(os.environ.get("TIERSERVE_MODELS", REPOSITORY / ".tierserve" / "models"))
    for name in DEFAULT_MODELS:
        build(Request(name, require=("int8",)), output, Told())
    return output


@pytest.fixture(scope="session")
def cat_bytes() -> bytes:
    return (PICTURES / "cat.jpg").read_bytes()


@pytest.fixture
def cat() -> Image.Image:
    with Image.open(PICTURES / "cat.jpg") as opened:
        return opened.convert("RGB")
