"""A real object store behind a proxy that makes it fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.object_store import Proxy, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running(tmp_path_factory.mktemp("s3") / "s3.log") as proxy:
        yield proxy


@pytest.fixture
def proxy(server: Proxy) -> Iterator[Proxy]:
    yield server
    server.released.set()
    server.reset()
