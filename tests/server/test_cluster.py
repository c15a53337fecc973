"""The calls to the Kubernetes API when the API server does not answer, or answers that it has too much to do."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from kubernetes.client import ApiClient, Configuration

from server.engines import cluster
from server.engines.base import EngineError
from server.engines.cluster import BUSY_SECONDS, SILENCE_SECONDS, ApiError, Cluster


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


class Busy:
    """An API server that answers the first ``refusals`` requests with a status and headers, and lists nothing then."""

    def __init__(self) -> None:
        self.refusals, self.status, self.headers = 0, 429, {"Retry-After": "1"}
        self.asked, self.now, self.slept = 0, 100.0, [0.0][:0]
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                world.asked += 1
                refused = world.asked <= world.refusals
                self.send_response(world.status if refused else 200)
                for name, value in world.headers.items() if refused else ():
                    self.send_header(name, value)
                body = json.dumps({"items": [], "message": "too many requests"}).encode()
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def client(self) -> Cluster:
        configuration = Configuration(host=f"http://127.0.0.1:{self.server.server_port}")
        configuration.retries = cluster.RETRIES
        return Cluster(ApiClient(configuration), "here", lambda: self.now, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def busy() -> Iterator[tuple[Busy, Cluster]]:
    found = Busy()
    yield found, found.client()
    found.close()


def test_a_busy_api_server_is_asked_again_when_it_says(busy: tuple[Busy, Cluster]) -> None:
    world, client = busy
    world.refusals = 2
    assert client.jobs("tierserve-free", "") == []
    assert (world.asked, world.slept) == (3, [1.0, 1.0])


def test_a_busy_api_server_is_waited_for_within_a_limit_and_is_not_silent(busy: tuple[Busy, Cluster]) -> None:
    world, client = busy
    world.refusals = 99
    with pytest.raises(ApiError, match="too many requests") as caught:
        client.jobs("tierserve-free", "")
    assert (caught.value.status, caught.value.outage) == (429, False)
    assert sum(world.slept) <= BUSY_SECONDS
    world.refusals = 0
    assert client.jobs("tierserve-free", "") == [], "it is asked at once"


@pytest.mark.parametrize("status", [413, 429, 503])
@pytest.mark.parametrize("wait", ["3600", "9" * 400, "-1", "soon", "Wed, 21 Oct 2099 07:28:00 GMT", ""])
def test_an_api_server_cannot_say_how_long_a_call_takes(busy: tuple[Busy, Cluster], status: int, wait: str) -> None:
    world, client = busy
    world.refusals, world.status, world.headers = 99, status, {"Retry-After": wait}
    with pytest.raises(ApiError):
        client.jobs("tierserve-free", "")
    assert sum(world.slept) <= BUSY_SECONDS
    assert world.asked <= 1 + BUSY_SECONDS / cluster.SHORTEST_WAIT


def test_it_is_known_when_the_api_server_listed_last(busy: tuple[Busy, Cluster]) -> None:
    world, client = busy
    assert not client.lists(60)
    client.jobs("tierserve-free", "")
    world.now += 59
    assert client.lists(60)
    world.now += 1
    assert not client.lists(60)
