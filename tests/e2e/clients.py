"""Clients that ask all the time and record everything that the server promised them."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeVar

from tests.e2e.deployment import ANSWER_SECONDS, TIERS, Deployment
from tests.e2e.pictures import PICTURES, SLOW_TYPE, slow
from tests.running import Answer
from tests.waiting import eventually

LABELS = {"cat": ("tabby", "tiger cat", "Egyptian cat"), "espresso": ("espresso",), "camera": ("tripod",)}
QUICK = {name: (PICTURES / f"{name}.jpg").read_bytes() for name in LABELS}
SLOW = "slow"
ASYNC = {"Prefer": "respond-async"}
PAUSE_SECONDS = 0.25
END_SECONDS = 180.0

C = TypeVar("C", bound="Clients")


class Clients:
    """Two clients in each of these tiers: one submits and looks later, the other waits for each answer.

    A broken connection and a 503 promise nothing, so the clients go on after them. Every other answer must be right.
    """

    def __init__(self, deployment: Deployment, tiers: Sequence[str]) -> None:
        self._deployment = deployment
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(tier, headers), daemon=True)
            for tier in tiers
            for headers in (ASYNC, {})
        ]
        self.promised: dict[str, str] = {}
        self.accepted: list[float] = []
        self.served: dict[str, list[tuple[float, float]]] = {tier: [] for tier in tiers}
        self.wrong: list[str] = []
        self.unanswered: list[str] = []
        self.refused: list[Answer] = []

    def start(self) -> None:
        """Start all clients."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask nothing more; return when the last answer is there."""
        self._over.set()
        for thread in self._threads:
            thread.join(ANSWER_SECONDS + 10)
            assert not thread.is_alive(), f"a client still waits for its last answer: {self.account()}"

    def submit_slow(self, count: int, tier: str = "free") -> list[str]:
        """Submit predictions that take a worker seconds each; return their ids. They count as promises too."""
        keys = []
        for _ in range(count):
            answer = self._deployment.post(tier, slow(), {**SLOW_TYPE, **ASYNC})
            assert answer.status == 202, answer.body
            keys.append(answer.json["id"])
            self.promised[answer.json["id"]] = SLOW
        return keys

    def gap(self, since: float, seconds: float = 120.0) -> float:
        """Wait until a request is accepted again; return the longest time without one since a moment, in seconds."""
        now = time.monotonic()
        again = "requests are accepted again"
        eventually(self.account, seconds, again, lambda _: self.accepted and self.accepted[-1] > now)
        moments = [since, *(moment for moment in list(self.accepted) if moment > since)]
        return max(later - earlier for earlier, later in pairwise(moments))

    def serves(self, tier: str, since: float, seconds: float = 120.0) -> None:
        """Return when a waiting client of the tier has got labels after a moment."""
        served = self.served[tier]
        eventually(self.account, seconds, f"{tier} answers", lambda _: served and served[-1][0] > since)

    def account(self) -> dict[str, Any]:
        """The answers so far: how many of each kind, how long ago the last one came, and the last bad ones."""
        now = time.monotonic()
        return {
            "accepted": (len(self.accepted), [f"{now - moment:.1f} s ago" for moment in self.accepted[-1:]]),
            "served": {
                tier: (len(served), [f"{now - moment:.1f} s ago" for moment, _ in served[-1:]])
                for tier, served in self.served.items()
            },
            "unanswered": (len(self.unanswered), self.unanswered[-2:]),
            "refused": (len(self.refused), self.refused[-2:]),
            "wrong": self.wrong[-2:],
        }

    def slowest(self, since: float) -> float:
        """The longest time, in seconds, that a client waited for labels since a moment."""
        return max(took for served in self.served.values() for moment, took in list(served) if moment > since)

    def settle(self) -> dict[str, dict[str, Any]]:
        """Wait until every promised prediction has ended, check that its labels are right, and return all of them."""
        ended = {key: self._deployment.ended(key, END_SECONDS) for key in self.promised}
        unkept = {key: found for key, found in ended.items() if not self._right(self.promised[key], found)}
        assert not unkept, f"{len(unkept)} of {len(ended)} were lost or wrong: {list(unkept.values())[:3]}"
        assert not self.wrong, self.wrong[:3]
        return ended

    def _ask(self, tier: str, headers: Mapping[str, str]) -> None:
        turn = 0
        while not self._over.wait(PAUSE_SECONDS):
            name = list(QUICK)[turn % len(QUICK)]
            turn += 1
            began = time.monotonic()
            try:
                self._take(name, tier, began, self._deployment.post(tier, QUICK[name], headers))
            except (OSError, http.client.HTTPException) as error:
                self.unanswered.append(f"{tier}: {error!r}")

    def _take(self, name: str, tier: str, began: float, answer: Answer) -> None:
        now = time.monotonic()
        if answer.status in (200, 202):
            self.accepted.append(now)
        if answer.status == 202:
            self.promised[answer.json["id"]] = name
        elif answer.status == 200:
            self.served[tier].append((now, now - began))
        elif answer.status == 503:
            self.refused.append(answer)
        if answer.status not in (202, 503) and not (answer.status == 200 and self._right(name, answer.json)):
            self.wrong.append(f"{name}: {answer.status} {answer.body!r}")

    def _right(self, name: str, found: Mapping[str, Any]) -> bool:
        if found["status"] != "succeeded":
            return False
        return name == SLOW or str(found["results"][0]["labels"][0]["label"]).startswith(LABELS[name])


@contextmanager
def at_work(clients: C) -> Iterator[C]:
    """Let clients ask while the block lasts; after it, check that every promise was kept."""
    clients.start()
    try:
        yield clients
    finally:
        clients.stop()
    clients.settle()


@contextmanager
def asking(deployment: Deployment, *tiers: str) -> Iterator[Clients]:
    """Let clients of these tiers, or of all, ask while the block lasts."""
    with at_work(Clients(deployment, tiers or TIERS)) as clients:
        yield clients
