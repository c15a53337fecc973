"""A worker process whose decoder does not answer: it renews its leases, ends in time, and hands back what it holds."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.model.pictures import PICTURES
from tests.model.test_decoder import SMALL, children, is_alive
from tests.waiting import eventually

CAT = (PICTURES / "cat.jpg").read_bytes()
RUN = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
import model.worker
model.worker.PICTURE_SECONDS = float(sys.argv.pop(1))
model.worker.LAST_SECONDS = 0.5
import model.__main__
sys.exit(model.__main__.main())
"""


class Server(ThreadingHTTPServer):
    """Leases the predictions in ``waiting``, one at a time, and keeps what the worker sends."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.waiting: list[tuple[str, bytes]] = []
        self.received: dict[str, list[Any]] = {"complete": [], "extend": [], "release": []}
        self.news = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """A worker that ends hangs up in the middle of a request."""

    def lease(self) -> bytes:
        """Return a frame with the next prediction, or nothing when none comes for a while."""
        self.news.wait(0.5)
        if not self.waiting:
            return b""
        key, picture = self.waiting.pop(0)
        if not self.waiting:
            self.news.clear()
        blob = struct.pack(">II", 1, len(picture)) + picture
        entry = {"id": key, "token": "t", "top_k": 3, "renew": 0.1, "size": len(blob)}
        head = json.dumps({"predictions": [entry]}).encode()
        return struct.pack(">I", len(head)) + head + blob

    def give(self, key: str, picture: bytes) -> None:
        self.waiting.append((key, picture))
        self.news.set()

    def renewals(self) -> int:
        """How often the worker has renewed its lease of the slow picture."""
        return sum(["slow", "t"] in body["leases"] for body in self.received["extend"])

    def result(self, key: str) -> dict[str, Any]:
        """Wait for the result of a prediction with one picture."""

        def look() -> list[Any]:
            sent = [one for body in self.received["complete"] for one in body["completions"]]
            return [one["results"][0] for one in sent if one["id"] == key]

        found: dict[str, Any] = eventually(look, 30, f"the result of {key}")[0]
        return found


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        what = self.path.rpartition("/")[2]
        if what == "lease":
            answer = self.server.lease()
        else:
            self.server.received[what].append(body)
            outcomes = ["accepted" for _ in body.get("completions", ())]
            answer = json.dumps({"lost": [], "outcomes": outcomes}).encode()
        self.send_response(200 if answer else 204)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@contextmanager
def working(server: Server, models: Path, seconds: float = 20.0) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the smallest model; decoding a picture may take it so many ``seconds``."""
    command = [sys.executable, "-c", RUN, str(seconds), "work", "--model", "tf_efficientnet_lite0", "--variant", "int8"]
    environment = {
        **os.environ,
        "TIERSERVE_SERVER": f"http://127.0.0.1:{server.server_port}",
        "TIERSERVE_TOKEN": "token",
        "TIERSERVE_MODELS": str(models),
    }
    worker = subprocess.Popen(command, env=environment)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def freeze_decoder(server: Server, worker: subprocess.Popen[bytes]) -> int:
    """Let the worker start its decoder, and stop that process: from now on it takes for ever."""
    server.give("first", SMALL)
    assert "labels" in server.result("first")
    (decoder,) = children(worker.pid)
    os.kill(decoder, signal.SIGSTOP)
    return decoder


def test_leases_are_renewed_while_a_picture_is_decoded_for_long(server: Server, models: Path) -> None:
    with working(server, models) as worker:
        decoder = freeze_decoder(server, worker)
        server.give("slow", SMALL)

        eventually(server.renewals, 20, "five renewals", enough=lambda seen: seen >= 5)
        os.kill(decoder, signal.SIGCONT)
        assert "labels" in server.result("slow")


def test_a_picture_that_takes_too_long_is_a_failed_result_and_the_worker_goes_on(server: Server, models: Path) -> None:
    with working(server, models, seconds=0.5) as worker:
        decoder = freeze_decoder(server, worker)
        server.give("slow", SMALL)
        assert server.result("slow")["error"]["code"] == "image_too_slow"
        assert not is_alive(decoder)
        for key, picture in (("photograph", CAT), ("drawing", SMALL)):
            server.give(key, picture)
            assert "labels" in server.result(key)
        worker.terminate()
        assert worker.wait(20) == 0


def test_a_worker_that_must_end_cuts_a_slow_picture_short_and_hands_it_back(server: Server, models: Path) -> None:
    with working(server, models) as worker:
        decoder = freeze_decoder(server, worker)
        server.give("slow", SMALL)
        eventually(server.renewals, 20, "the worker holds it")
        worker.terminate()
        assert worker.wait(15) == 0
        assert {"leases": [["slow", "t"]]} in server.received["release"]
        assert not is_alive(decoder)


def test_a_worker_without_a_slow_picture_ends_at_once_with_its_decoder(server: Server, models: Path) -> None:
    with working(server, models) as worker:
        server.give("first", SMALL)
        server.result("first")
        (decoder,) = children(worker.pid)
        worker.terminate()
        assert worker.wait(15) == 0
        assert server.received["release"] == []
        assert not is_alive(decoder)
