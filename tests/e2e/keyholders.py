"""Operators of keys in a cluster, and clients that have a key."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.deployment import ANSWER_SECONDS, NAMESPACE, RELEASE, Deployment, ask
from tests.e2e.pictures import CAT
from tests.running import ROOT, Answer
from tests.service.test_classify import is_cat

PAUSE_SECONDS = 0.2
ADMIN = ("--url", "http://127.0.0.1:8081", "--admin-token-file", "/var/run/secrets/tierserve/admin-token")


@dataclass(frozen=True, slots=True)
class Hashed:
    """A key, and the record of it that may be in Git."""

    key: str
    record: Mapping[str, Any]


def hashed(pepper: Path, *words: str) -> Hashed:
    """Make a key without a server, as somebody does who keeps records in Git."""
    command = [sys.executable, "-m", "server", "keys", "create", "--pepper-file", str(pepper), "--json", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=pepper.parent, env=env, stdout=subprocess.PIPE, timeout=60, check=True)
    said = json.loads(done.stdout)
    return Hashed(said["key"], said["record"])


def keep(deployment: Deployment, name: str, *kept: Hashed) -> None:
    """Put the records of keys, and of no others, into a Secret."""
    text = yaml.safe_dump({"keys": [dict(each.record) for each in kept]})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"keys.yaml": text}}
    deployment.kubectl("apply", "-f", "-", stdin=json.dumps(secret))


def operate(deployment: Deployment, *words: str) -> str:
    """Run ``tierserve keys`` in a server's pod; returns what it prints."""
    return deployment.kubectl("exec", f"deployment/{RELEASE}", "--", "tierserve", "keys", *words, *ADMIN)


def bearer(key: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"Authorization": f"Bearer {key}"}


def servers(deployment: Deployment) -> list[tuple[str, int]]:
    """The public port of each server."""
    return [(pod["status"]["podIP"], 8080) for pod in deployment.server_pods()]


def use(server: tuple[str, int], key: str) -> Answer:
    """Use a key for something that takes no work: it sends no picture."""
    return ask(server, "POST", "/img-classification/premium", b"", bearer(key))


def code(answer: Answer) -> str:
    """The code of a refusal."""
    return str(answer.json["code"])


def logs(deployment: Deployment) -> str:
    """What all servers have logged."""
    pods = (pod["metadata"]["name"] for pod in deployment.server_pods())
    return "".join(deployment.cluster.kubectl("-n", NAMESPACE, "logs", pod) for pod in pods)


class Holder(threading.Thread):
    """A client that asks premium all the time with ``key``, which may be replaced by another one meanwhile."""

    def __init__(self, deployment: Deployment, key: str) -> None:
        super().__init__(daemon=True)
        self._deployment, self._over = deployment, threading.Event()
        self.key = key
        self.served: list[str] = []
        self.failures: list[str] = []

    def run(self) -> None:
        while not self._over.wait(PAUSE_SECONDS):
            key = self.key
            try:
                answer = self._deployment.post("premium", CAT, bearer(key))
                if is_cat(answer):
                    self.served.append(key)
                else:
                    self.failures.append(f"{answer.status} {answer.body!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))

    def stop(self) -> None:
        """Ask nothing more; return when the last answer is there."""
        self._over.set()
        self.join(ANSWER_SECONDS)
        assert not self.is_alive(), "a client still waits for its last answer"


@contextmanager
def holding(deployment: Deployment, key: str) -> Iterator[Holder]:
    """Let a client ask with a key while the block lasts."""
    holder = Holder(deployment, key)
    holder.start()
    try:
        yield holder
    finally:
        holder.stop()
