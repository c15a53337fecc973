"""A small server that gives a worker its model, and breaks in the way that a test wants."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from model.description import Measured, Model, Variant, digest_of, write_model
from model.geometry import Preprocessing

TOKEN = "the token of a Job"
MEASURED = Measured(1.0, None, 0.0, None, None, 1.0, 1.0, 1.0)
INPUT = Preprocessing(8, 8, 3, 1.0, "center", "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

Fault = Callable[["Visit", bytes], None]


def described(folder: Path, weights: bytes, file: str = "model.onnx") -> Model:
    """Write the record of a model with one file into a folder. No runtime would load its weights."""
    checksum = hashlib.sha256(weights).hexdigest()
    network, arguments, labels = "resnet18", {"num_classes": 2}, ("a rose", "a tulip")
    variants = (Variant("onnx", "fp32", file, len(weights), checksum, MEASURED),)
    digest = digest_of(network, arguments, labels, INPUT, variants)
    model = Model(folder, "flowers", digest[:8], digest, network, arguments, labels, INPUT, variants, {}, (), {})
    folder.mkdir(parents=True, exist_ok=True)
    write_model(model)
    return model


class Store:
    """What the server has. Each request takes the next of ``faults``; None, or none left, is answered in order."""

    def __init__(self) -> None:
        self.url = ""
        self.token = TOKEN
        self.has: dict[str, bytes] = {}
        self.faults: deque[Fault | None] = deque()
        self.asked: list[str] = []

    def put(self, model: Model, *files: bytes) -> None:
        """Have a model whose record lies in its folder, and these files."""
        self.has[f"/work/models/{model.reference}"] = (model.path / "model.json").read_bytes()
        self.has |= {f"/work/model-files/{hashlib.sha256(file).hexdigest()}": file for file in files}


class Visit(BaseHTTPRequestHandler):
    """One connection of a worker."""

    protocol_version = "HTTP/1.1"
    store: Store

    def do_GET(self) -> None:
        self.store.asked.append(self.path)
        data = self.store.has.get(self.path)
        fault = self.store.faults.popleft() if self.store.faults else None
        if self.headers["Authorization"] != f"Bearer {self.store.token}":
            refused(401, "the token is not one of this server's")(self, b"")
        elif fault is not None:
            with suppress(OSError):
                fault(self, data or b"")
        elif data is None:
            refused(404, f"there is no {self.path}")(self, b"")
        else:
            self.answer(200, data)

    def answer(self, status: int, data: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Log nothing."""


def refused(status: int, detail: str) -> Fault:
    """Answer with a problem."""
    return lambda visit, _: visit.answer(status, json.dumps({"detail": detail}).encode())


def cut(visit: Visit, data: bytes) -> None:
    """Send half of it and close the connection."""
    visit.answer(200, data[: len(data) // 2], len(data))
    visit.close_connection = True


def hang_up(visit: Visit, _: bytes) -> None:
    """Close the connection without an answer."""
    visit.close_connection = True


def changed(visit: Visit, data: bytes) -> None:
    """Send it with one bit changed."""
    other = bytearray(data)
    other[len(other) // 2] ^= 1
    visit.answer(200, bytes(other))


def longer(visit: Visit, data: bytes) -> None:
    """Send more than there is."""
    visit.answer(200, data + b"more")


def endless(visit: Visit, data: bytes) -> None:
    """Send it without a length, and then for ever more."""
    visit.send_response(200)
    visit.end_headers()
    visit.close_connection = True
    visit.wfile.write(data)
    while True:
        visit.wfile.write(bytes(1 << 16))


def trickling(visit: Visit, data: bytes) -> None:
    """Send it slowly, until the worker hangs up."""
    visit.answer(200, b"", len(data))
    for start in range(0, len(data), 1024):
        visit.wfile.write(data[start : start + 1024])
        time.sleep(0.001)


@contextmanager
def serving() -> Iterator[Store]:
    """A store while the block lasts."""
    store = Store()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("ItsVisit", (Visit,), {"store": store}))
    store.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
