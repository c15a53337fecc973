"""Clients that keep their connection: they submit a picture and ask for its labels by long polling."""

from __future__ import annotations

import http.client
import threading
import uuid
from collections.abc import Mapping
from typing import Any

from tests.e2e.clients import ASYNC, LABELS, PAUSE_SECONDS, QUICK, Clients
from tests.e2e.deployment import ANSWER_SECONDS, TIERS, Deployment
from tests.running import Answer

POLL_SECONDS = 5
BROKEN = (ConnectionError, http.client.RemoteDisconnected)


class Kept(threading.Thread):
    """A client of one tier.

    It repeats a request once, on a new connection, if the server has closed the kept one (RFC 9110, section 9.2.2) or
    answers 503 with Retry-After.
    """

    def __init__(self, deployment: Deployment, tier: str) -> None:
        super().__init__(daemon=True)
        self._deployment, self._tier = deployment, tier
        self._over = threading.Event()
        self._connection = http.client.HTTPConnection(*deployment.address(), timeout=ANSWER_SECONDS)
        self._under_way: dict[str, Any] = {}
        self.labelled = 0
        self.repeated: list[str] = []
        self.failures: list[str] = []

    def run(self) -> None:
        turn = 0
        while not self._over.wait(PAUSE_SECONDS):
            name = list(QUICK)[turn % len(QUICK)]
            turn += 1
            try:
                assert self._label(name).startswith(LABELS[name]), f"{name} has a wrong label"
                self.labelled += 1
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.failures.append(repr(error))
                self._connection.close()
        self._connection.close()

    def stop(self) -> None:
        """Ask nothing more; return when the last picture has its labels."""
        self._over.set()
        self.join(ANSWER_SECONDS)
        assert not self.is_alive(), f"{self._tier}: the labels of {self._under_way} are not there"

    def _label(self, name: str) -> str:
        headers = {**ASYNC, "Idempotency-Key": uuid.uuid4().hex, "Content-Type": "application/octet-stream"}
        answer = self._ask("POST", f"/img-classification/{self._tier}", QUICK[name], headers)
        self._under_way = answer.json
        while self._under_way["completed_at"] is None:
            self._under_way = self._ask("GET", f"{answer.headers['Location']}?wait={POLL_SECONDS}", None, {}).json
        return str(self._under_way["results"][0]["labels"][0]["label"])

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        if self._connection.sock is not None:
            try:
                answer = self._once(method, path, body, headers)
                if answer.status != 503:
                    return answer
                self.repeated.append(f"{method}: {answer.json['code']}")
                assert "Retry-After" in answer.headers
            except BROKEN as error:
                self.repeated.append(f"{method}: {type(error).__name__}")
            self._connection.close()
        answer = self._once(method, path, body, headers)
        assert answer.status in (200, 202), f"{method} {path}: {answer.status} {answer.body!r}"
        return answer

    def _once(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        self._connection.request(method, path, body, dict(headers))
        response = self._connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())


class Crowd(Clients):
    """All kinds of clients in every tier: those that wait, those that look later, and those that keep a connection."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment, TIERS)
        self.kept = [Kept(deployment, tier) for tier in TIERS]

    def start(self) -> None:
        """Start all clients."""
        super().start()
        for one in self.kept:
            one.start()

    def stop(self) -> None:
        """Ask nothing more; return when the last answer is there."""
        for one in self.kept:
            one.stop()
        super().stop()

    def content(self) -> str:
        """Check that every request got a good answer; return a line with the counts."""
        assert self.unanswered == []
        assert [answer.body for answer in self.refused] == []
        assert [failure for one in self.kept for failure in one.failures] == []
        repeated = [why for one in self.kept for why in one.repeated]
        served = sum(map(len, self.served.values())) + len(self.promised) + sum(one.labelled for one in self.kept)
        return f"{served} requests on new connections and kept ones, repeated on kept ones: {repeated or 'none'}"
