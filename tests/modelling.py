"""An operator of models, and clients who note which model answered them."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from model.description import RECORD, Model
from tests.running import ROOT, Answer

COMMAND_SECONDS = 120.0
CLIENTS = 3


class Models:
    """Runs ``tierserve model`` with the words that say where the server is."""

    def __init__(self, *where: str) -> None:
        self._where = where

    @classmethod
    def of(cls, state: Path) -> Models:
        """The models of a server on this machine."""
        return cls("--state", str(state))

    def run(self, *words: str) -> str:
        """Run one command and return what it prints. Raises ``AssertionError`` with what it complains about."""
        done = self.tried(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def tried(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one command, which may fail."""
        command = [sys.executable, "-m", "server", "model", *words, *self._where]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)


def push_untried(address: tuple[str, int], token: str, model: Model) -> None:
    """Push a model as the command does, but without trying it. Raises ``AssertionError``."""
    admin = {"Authorization": f"Bearer {token}"}
    for variant in model.variants:
        data = (model.path / variant.file).read_bytes()
        _send(address, "PUT", f"/v1/model-files/{variant.sha256}", data, admin)
    body = json.dumps({"record": json.loads((model.path / RECORD).read_text("utf-8")), "tags": []}).encode()
    _send(address, "POST", "/v1/models", body, {**admin, "Content-Type": "application/json"})


def _send(address: tuple[str, int], method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection(*address, timeout=COMMAND_SECONDS)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        assert answer.status in (200, 201, 204), (answer.status, answer.read())
    finally:
        connection.close()


class Askers:
    """Clients who ask all the time. ``answers`` counts what answered; ``failures`` has what was no label."""

    def __init__(self, ask: Callable[[], Answer], clients: int = CLIENTS) -> None:
        self._ask, self._over = ask, threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        self.answers: Counter[tuple[str, str]] = Counter()
        self.failures: list[str] = []

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask nothing more; return when the last answers are there."""
        self._over.set()
        for thread in self._threads:
            thread.join(COMMAND_SECONDS)
            assert not thread.is_alive(), "a client still waits for its answer"

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.answers[answered_by(self._ask())] += 1
            except Exception as error:  # noqa: BLE001 (whatever it is, somebody got no label)
                self.failures.append(repr(error))
                self._over.wait(0.2)


def answered_by(answer: Answer) -> tuple[str, str]:
    """The model that says that it answered, and the word before its best label. Raises ``AssertionError``."""
    assert answer.status == 200, answer
    (result,) = answer.json["results"]
    assert result["status"] == "succeeded", result
    return str(answer.json["model"]), str(result["labels"][0]["label"]).split()[0]


@contextmanager
def asking(ask: Callable[[], Answer], clients: int = CLIENTS) -> Iterator[Askers]:
    """Let clients ask while the block lasts."""
    askers = Askers(ask, clients)
    askers.start()
    try:
        yield askers
    finally:
        askers.stop()


def references(answers: Counter[tuple[str, str]]) -> Sequence[str]:
    """The models that answered."""
    return sorted({reference for reference, _ in answers})
