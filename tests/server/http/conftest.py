"""A site for each test, and one that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.settings.live import Live
from server.settings.sources import Files
from tests.server.http.http_site import PLACES, Site, running


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("shared")) as found:
        yield found


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Site]:
    """A site whose tier free has few places."""
    live = Live(Files(overrides=(f"tiers.free.limits.queue={PLACES}",)))
    with running(tmp_path, live) as found:
        yield found
