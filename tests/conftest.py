"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from model.build import DEFAULT_MODELS, build
from tests.running import models_directory

# On a busy machine any example may take long.
settings.register_profile("tierserve", deadline=None)
settings.load_profile("tierserve")
# Helpers assert too. pytest shows what a failed assert compared only in tests and in the modules registered here.
pytest.register_assert_rewrite("tests.e2e", "tests.faults", "tests.hostile", "tests.service", "tests.server")


@pytest.fixture(scope="session")
def models() -> Path:
    """The directory with the default models. ``make`` fills it; if it has not, this does."""
    output = models_directory()
    for name in DEFAULT_MODELS:
        build(name, output, progress=lambda step: None)
    return output
