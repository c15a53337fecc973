"""The harness as a worker: it hands results in once, twice, late, forged or never. Each result has its own score."""

from __future__ import annotations

import http.client
import json
import random
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from model.messages import unframe
from tests.faults.actor import Actor
from tests.faults.clients import ask
from tests.faults.history import History
from tests.faults.pictures import Pictures, digest
from tests.faults.world import Doors
from tests.running import MODEL, Answer

TIMEOUT_SECONDS = 10.0
HELD_MOST = 8
SCORES = 999_983  # each result has one of so many scores, which shows clients which result counted
USES = {"hand in": 70, "twice": 8, "late": 8, "forget": 2, "release": 4, "extend": 4, "forge": 4}


@dataclass(frozen=True, slots=True)
class Held:
    """A lease, with the result that the hand will hand in for it."""

    worker: str
    id: str
    token: str
    label: str
    score: float


class Hand(Actor):
    """A worker for any Job that has a door. It may also hand in what it leased for earlier Jobs."""

    def __init__(
        self,
        name: str,
        seed: int,
        port: int,
        history: History,
        pictures: Pictures,
        doors: Doors,
        patience: Callable[[], object],
    ) -> None:
        super().__init__(name)
        self._address = ("127.0.0.1", port)
        self._chance = random.Random(f"{seed} {name}")
        self._history, self._pictures, self._doors, self._patience = history, pictures, doors, patience
        self._late: list[Held] = []
        self._results = self._chance.randrange(SCORES)
        self.diligent = threading.Event()

    def step(self) -> None:
        """Lease, and do something with each lease."""
        tokens = self._doors.tokens()
        if not tokens:
            self.over.wait(0.01)
            return
        # Mostly for the newest Job, and at times for an older one, which may be over without its worker's knowledge.
        worker = tokens[-1] if self._chance.random() < 0.8 else self._chance.choice(tokens)
        if self._late and self._chance.random() < 0.3:
            self._hand_in(self._late.pop(self._chance.randrange(len(self._late))))
        for held in self._lease(worker):
            self._use(held)

    def _use(self, held: Held) -> None:
        """Do at random what workers do with a lease. A diligent hand only hands in."""
        hold = {"leases": [[held.id, held.token]]}
        what = "hand in" if self.diligent.is_set() else self._chance.choices(list(USES), list(USES.values()))[0]
        match what:
            case "hand in":
                self._hand_in(held)
            case "twice":
                self._hand_in(held)
                self._hand_in(replace(held, score=self._score()))  # another score shows which of the two counted
            case "late" if len(self._late) < HELD_MOST:
                self._late.append(held)
            case "release":
                self._post("release", held, hold)
            case "extend":
                self._post("extend", held, hold)
                self._hand_in(held)
            case "forge":
                forged = held.token[:-1] + ("1" if held.token.endswith("0") else "0")
                self._hand_in(replace(held, token=forged, label="forged", score=self._score()), forged=True)
                self._hand_in(held)
            case _:
                pass

    def _lease(self, worker: str) -> list[Held]:
        most, wait = self._chance.randint(1, 4), self._chance.choice((0, 0.05, 0.2))
        number = self._history.call(self.name, "lease", job=_job(worker))
        answer = self._send(number, "lease", worker, {"most": most, "wait": wait})
        if answer.status in (401, 410):
            self._doors.over(worker)
        try:
            leases = list(unframe(answer.body).leases) if answer.status == 200 else []
        except (struct.error, IndexError):
            self._history.answer(number, status=answer.status, leases=[["", "", "unreadable"]])
            return []
        noted = [[lease.id, lease.token, digest(lease.pictures[0])] for lease in leases]
        if answer.status:
            self._history.answer(number, status=answer.status, leases=noted)
        label = self._pictures.label
        return [
            Held(
                worker=worker,
                id=lease.id,
                token=lease.token,
                label=label(lease.pictures[0]),
                score=self._score(),
            )
            for lease in leases
        ]

    def _hand_in(self, held: Held, *, forged: bool = False) -> None:
        """Hand in a result. If the answer is lost, it will be handed in again later."""
        result = {
            "id": held.id,
            "token": held.token,
            "results": [{"labels": [{"label": held.label, "score": held.score}]}],
        }
        body = {"completions": [{**result, "model": MODEL, "predict_ms": 1.0}]}
        if not self._post("complete", held, body, score=held.score, forged=forged) and not forged:
            self._late.append(held)

    def _post(self, what: str, held: Held, body: dict[str, Any], **facts: Any) -> bool:
        number = self._history.call(self.name, what, job=_job(held.worker), id=held.id, token=held.token, **facts)
        answer = self._send(number, what, held.worker, body)
        if not answer.status:
            return False
        said = answer.json if answer.status == 200 else {}
        outcome = said.get("outcomes", [None])[0]
        self._history.answer(number, status=answer.status, outcome=outcome, lost=said.get("lost"))
        return True

    def _score(self) -> float:
        self._results += 1
        return (self._results % SCORES) / 1e6

    def _send(self, number: int, what: str, worker: str, body: dict[str, Any]) -> Answer:
        headers = {"Authorization": f"Bearer {worker}", "Content-Type": "application/json"}
        data = json.dumps(body).encode()
        try:
            return ask(self._address, "POST", f"/work/{what}", data, headers, TIMEOUT_SECONDS)
        except (OSError, http.client.HTTPException) as error:
            self._history.answer(number, error=type(error).__name__)
            self._patience()
            return Answer(0, {}, b"")


def _job(worker: str) -> str:
    return worker.split(".")[1]
