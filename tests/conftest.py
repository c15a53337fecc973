"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.build import DEFAULT_MODELS, build
from tests.running import models_directory

# The plain modules beside the tests assert too: their failures show what was compared.
pytest.register_assert_rewrite("tests.e2e", "tests.faults", "tests.service", "tests.server")


@pytest.fixture(scope="session")
def models() -> Path:
    """The directory with the default models. ``make`` fills it; if it has not, this does."""
    output = models_directory()
    for name in DEFAULT_MODELS:
        build(name, output, progress=lambda step: None)
    return output
