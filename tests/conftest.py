"""Fixtures for all tests."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from model.build.builder import DEFAULT_MODELS, build
from model.build.request import Request
from tests.model.build.told import Told
from tests.running import models_directory

pytest_plugins = ["tests.trained"]

# On a busy machine any example may take long.
settings.register_profile("tierserve", deadline=None)
settings.load_profile("tierserve")
# Helpers assert too. pytest shows what a failed assert compared only in tests and in the modules registered here.
pytest.register_assert_rewrite(
    "tests.e2e", "tests.faults", "tests.hostile", "tests.page", "tests.service", "tests.server"
)


@pytest.fixture(scope="session")
def models() -> Path:
    """The directory with the default models. ``make`` fills it; if it has not, this does."""
    output = models_directory()
    for name in DEFAULT_MODELS:
        build(Request(name, require=("int8",)), output, Told())
    return output


@pytest.fixture(autouse=True)
def _machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A test that is marked ``alone`` measures: no other process of the same run has a test at work meanwhile."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    alone = request.node.get_closest_marker("alone") is not None
    with (tmp_path_factory.getbasetemp().parent / "machine.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
