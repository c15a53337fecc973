"""A real object store behind a proxy, for the tests that make it fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.object_store import Proxy, running


@pytest.fixture(scope="module")
def server() -> Iterator[Proxy]:
    with running() as proxy:
        yield proxy


@pytest.fixture
def proxy(server: Proxy) -> Iterator[Proxy]:
    yield server
    server.released.set()
    server.reset()
