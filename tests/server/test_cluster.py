"""The calls to the Kubernetes API when the API server does not answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from kubernetes.client import ApiClient, Configuration

from server.engines import cluster
from server.engines.base import EngineError
from server.engines.cluster import SILENCE_SECONDS, Cluster


class Silent:
    """An API server that takes connections and never answers."""

    def __init__(self) -> None:
        self.now = 100.0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        configuration = Configuration(host=f"http://127.0.0.1:{self.listener.getsockname()[1]}")
        configuration.retries = 1
        self.cluster = Cluster(ApiClient(configuration), "here", lambda: self.now)

    def connections(self) -> int:
        """How many connections have come since the last call."""
        count = 0
        while True:
            try:
                self.listener.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    monkeypatch.setattr(cluster, "TIMEOUT", (0.1, 0.1))
    found = Silent()
    yield found
    found.listener.close()


def test_a_silent_api_server_is_waited_for_once_not_by_every_caller(silent: Silent) -> None:
    with pytest.raises(EngineError, match="the API server does not answer: ReadTimeoutError"):
        silent.cluster.jobs("tierserve-free", "")
    assert silent.connections() == 2, "one try and one more"
    silent.now += SILENCE_SECONDS - 0.1
    with pytest.raises(EngineError, match="the API server does not answer: ReadTimeoutError"):
        silent.cluster.review("token", "tierserve")
    assert silent.connections() == 0
    silent.now += 0.1
    with pytest.raises(EngineError, match="does not answer"):
        silent.cluster.jobs("tierserve-free", "")
    assert silent.connections() == 2
