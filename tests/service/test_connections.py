"""Connections of strangers: a server that may open few files goes on serving on both ports."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.running import Client, Service

FILES = 256
LIMITED = (
    "import os, resource, sys;"
    f"resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES})); os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture
def limited(tmp_path: Path, models: Path) -> Iterator[Service]:
    found = Service(tmp_path, models)
    found.command = [sys.executable, "-c", LIMITED, *found.command]
    found.start()
    yield found
    found.stop()


def test_more_connections_than_files_leave_both_ports_alive(limited: Service, cat: bytes) -> None:
    assert limited.process is not None
    with ExitStack() as held:
        for number in range(2 * FILES):
            port = limited.internal_port if number % 8 == 0 else limited.port
            stranger = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            if number % 2:
                stranger.sendall(b"GET / HTTP/1.1\r\n")
        assert limited.process.num_fds() < FILES
        for port in (limited.port, limited.internal_port):
            assert Client(port).get("/healthz").status == 200
            assert Client(port).get("/readyz").status == 200
        answer = limited.post("free", cat)
        assert (answer.status, answer.json["status"]) == (200, "succeeded")
    log = limited.log.read_text()
    assert log.count("were closed for new ones") == 2
    assert "Traceback" not in log
    assert len(log) < 4096
