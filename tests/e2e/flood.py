"""A tier that always has more to do than its workers can."""

from __future__ import annotations

import http.client
import threading
from types import TracebackType
from typing import Any

from tests.e2e.clients import ASYNC
from tests.e2e.deployment import Deployment
from tests.e2e.pictures import SLOW_TYPE, slow

WAITING = 60
PAUSE_SECONDS = 0.5
STOP_SECONDS = 150.0
BROKEN = (OSError, http.client.HTTPException)


class Flood(threading.Thread):
    """Submits pictures so that ``WAITING`` of them wait, while the block lasts. Each takes a worker half a second.

    A connection that breaks and a 503 promise nothing, so it goes on after them. ``keys`` are the ids of all that were
    accepted, and ``wrong`` are all other answers.
    """

    def __init__(self, deployment: Deployment, tier: str) -> None:
        super().__init__(daemon=True)
        self._deployment, self._tier = deployment, tier
        self._over = threading.Event()
        self.keys: list[str] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        """Keep the queue filled."""
        while not self._over.is_set():
            try:
                for _ in range(WAITING - int(self._deployment.tier(self._tier)["queued"])):
                    self._submit()
            except BROKEN:
                pass
            self._over.wait(PAUSE_SECONDS)

    def rest(self) -> list[dict[str, Any]]:
        """Cancel what no worker has begun, and wait until everything has ended; returns what was not canceled."""
        assert self.wrong == []
        for key in reversed(self.keys):
            if self._deployment.prediction(key)["status"] == "queued":
                self._deployment.ask("DELETE", f"/v1/predictions/{key}")
        ended = [self._deployment.ended(key) for key in self.keys]
        return [found for found in ended if found["status"] != "canceled"]

    def _submit(self) -> None:
        answer = self._deployment.post(self._tier, slow(1), {**SLOW_TYPE, **ASYNC})
        if answer.status == 202:
            self.keys.append(str(answer.json["id"]))
        elif answer.status != 503:
            self.wrong.append(f"{answer.status} {answer.body!r}")

    def __enter__(self) -> Flood:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self.join(STOP_SECONDS)
