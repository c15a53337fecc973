"""The lobby, on each database that the queue can use, and on one that fails when it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.lobby.lobby_world import KINDS, FailingWorld, LobbyWorld
from tests.server.queue.queue_world import World


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LobbyWorld]:
    with LobbyWorld(tmp_path, request.param) as world:
        yield world


@pytest.fixture
def small(tmp_path: Path) -> Iterator[LobbyWorld]:
    with LobbyWorld(tmp_path, World) as world:
        yield world


@pytest.fixture
def failing_world(tmp_path: Path) -> Iterator[LobbyWorld]:
    with LobbyWorld(tmp_path, FailingWorld) as world:
        yield world
