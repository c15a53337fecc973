"""Leaders on real queues, which are closed after each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.shipped import DEFAULT_VALUES, TEMPLATES
from tests.server.leader.leader_world import Obedient, World


@pytest.fixture
def worlds() -> Iterator[list[World]]:
    made: list[World] = []
    yield made
    for world in made:
        world.database.close()


@pytest.fixture
def world(tmp_path: Path, worlds: list[World]) -> World:
    worlds.append(World(tmp_path, Obedient()))
    return worlds[0]


@pytest.fixture
def editable(tmp_path: Path, worlds: list[World]) -> World:
    """A world with its own files of settings and templates, which a test may change."""
    shutil.copytree(TEMPLATES, tmp_path / "templates")
    shutil.copy(DEFAULT_VALUES, tmp_path / "values.yaml")
    worlds.append(World(tmp_path, Obedient(), values=tmp_path / "values.yaml", templates=tmp_path / "templates"))
    return worlds[-1]
