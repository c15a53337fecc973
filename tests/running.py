"""A real server in a process of its own, with its own folder and ports."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60.0
ANSWER_SECONDS = 60.0
PORTS = 10_000, 30_000
MODEL = "tf_efficientnet_lite0@0f1e2d3c"  # what a test in the place of a worker says, whose Job has no model


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class Client:
    """Asks a port of this machine."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port, self.host = port, host

    def get(self, path: str) -> Answer:
        """GET a path."""
        return self.ask("GET", path)

    def post(self, tier: str, body: bytes, headers: Mapping[str, str] | None = None, query: str = "") -> Answer:
        """POST a body to a tier."""
        given = {"Content-Type": "application/octet-stream", **(headers or {})}
        return self.ask("POST", f"/img-classification/{tier}{query}", body, given)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Make one request on a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()


def setting(pair: str) -> str:
    """The option that takes ``a.b=v``: as in Helm, ``--set`` makes text of a number with a point."""
    return "--set-json" if re.fullmatch(r"[0-9]+\.[0-9]+", pair.partition("=")[2]) else "--set"


class Service(Client):
    """A server that can be asked, killed and started again on the same data. ``root`` has its code."""

    def __init__(
        self,
        state: Path,
        models: Path,
        settings: Sequence[str] = (),
        values: Path | None = None,
        options: Sequence[str] = (),
        root: Path = ROOT,
    ) -> None:
        super().__init__(free_port())
        self._root = root
        self.state, self.internal_port = state, free_port()
        pairs = [f"server.port={self.port}", f"server.internalPort={self.internal_port}", *settings]
        self.command = [sys.executable, "-m", "server", "serve", "--state", str(state), "--models", str(models)]
        self.command += ["--values", str(values)] if values else []
        self.command += options
        self.command += [word for pair in pairs for word in (setting(pair), pair)]
        self.log = state / "server.log"
        self.process: psutil.Popen | None = None

    def start(self) -> None:
        """Start the server and wait until it answers. Raises ``RuntimeError`` if it does not."""
        self.state.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            given = os.environ if self._root == ROOT else {**os.environ, "PYTHONPATH": str(self._root)}
            self.process = psutil.Popen(self.command, cwd=self._root, env=dict(given), stdout=log, stderr=log)
        end, seen = time.monotonic() + START_SECONDS, ""
        while time.monotonic() < end and self.process.poll() is None:
            try:
                answer = self.get("/healthz")
                if answer.status == 200:
                    return
                seen = repr(answer)
            except (OSError, http.client.HTTPException) as error:
                seen = repr(error)
            time.sleep(0.02)
        status = self.process.poll()
        self.kill()
        what = f"no answer within {START_SECONDS:g} s: status {status}, last seen {seen}"
        raise RuntimeError(f"{what}; see {self.log}")

    def stop(self) -> int:
        """End the server as an operator does, and return its status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """End the server as a crash does, and return its status."""
        return self._end(signal.SIGKILL)

    def workers(self) -> list[psutil.Process]:
        """The processes of the server's workers."""
        assert self.process is not None
        return [child for child in self.process.children() if "work" in child.cmdline()]

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        with suppress(psutil.NoSuchProcess):
            self.process.send_signal(number)
        status: int = self.process.wait(timeout=40)
        self.process = None
        return status


@contextmanager
def service(
    models: Path,
    state: Path,
    settings: Sequence[str] = (),
    values: Path | None = None,
    options: Sequence[str] = (),
    root: Path = ROOT,
) -> Iterator[Service]:
    """A server that runs while the block lasts."""
    found = Service(state, models, settings, values, options, root)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def free_port() -> int:
    """A port that nothing listens on, and that no outgoing connection gets by itself, as those have higher ones.

    Another process may take it before its server starts. That is rare, and then the server says that it is in use.
    """
    while True:
        port = random.randrange(*PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def models_directory() -> Path:
    """The directory of the default models, whether they are built or not."""
    return Path(os.environ.get("TIERSERVE_MODELS", ROOT / ".tierserve" / "models"))


@cache
def default_model() -> str:
    """``NAME@VERSION`` of what the tier free serves unless it is told otherwise, and so what its workers say."""
    record = json.loads((models_directory() / "tf_efficientnet_lite0" / "model.json").read_bytes())
    return f"{record['name']}@{record['version']}"


def lacking(what: str) -> None:
    """Skip the test and say what is missing. With CI=true nothing may be missing, so the test fails."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(what)


def listening(port: int) -> bool:
    """Whether somebody takes connections on this port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
