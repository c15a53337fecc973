"""The harness as a worker: it hands results in once, twice, late, forged or never. Each result has its own score."""

from __future__ import annotations

import random
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from websockets.exceptions import WebSocketException

from model.messages import unpack
from tests.channel import Channel, Closed, Lease, Refused
from tests.faults.actor import Actor
from tests.faults.history import History
from tests.faults.pictures import Pictures, digest
from tests.faults.world import Doors
from tests.running import default_model

HELD_MOST = 8
RENEW_SECONDS = 0.3  # a server hangs up on a worker that is silent for a lease's length, which is a second
SCORES = 999_983  # each result has one of so many scores, which shows clients which result counted
USES = {
    "hand in": 62,
    "slow": 4,
    "twice": 8,
    "late": 8,
    "forget": 2,
    "release": 4,
    "renew": 4,
    "forge": 4,
    "spoil": 4,
}
SLOW_SECONDS = 0.4  # longer than ``lobbySeconds``
GONE = (Closed, TimeoutError, OSError, WebSocketException)


@dataclass(frozen=True, slots=True)
class Held:
    """A lease, with the result that the hand will hand in for it."""

    worker: str
    id: str
    token: str
    label: str
    score: float

    @property
    def pair(self) -> Lease:
        """What names the lease in a message."""
        return {"id": self.id, "token": self.token}


class Hand(Actor):
    """A worker for any Job that has a door. Mostly each hand has a Job of its own, as two channels of one Job end."""

    def __init__(
        self,
        number: int,
        seed: int,
        port: int,
        history: History,
        pictures: Pictures,
        doors: Doors,
        patience: Callable[[], object],
    ) -> None:
        super().__init__(f"hand-{number}")
        self._number, self._url = number, f"http://127.0.0.1:{port}"
        self._chance = random.Random(f"{seed} {self.name}")
        self._history, self._pictures, self._doors, self._patience = history, pictures, doors, patience
        self._channel: Channel | None = None
        self._heard = 0.0
        self._credits: deque[int] = deque()  # the calls of the history that wait for a prediction
        self._late: list[Held] = []
        self._results = self._chance.randrange(SCORES)
        self.diligent = threading.Event()

    def run(self) -> None:
        """As an actor's; the channel is closed in the end."""
        super().run()
        self._leave()

    def step(self) -> None:
        """Connect if there is no channel; else get predictions, and do something with each."""
        if self._channel is None:
            if not self._connect():
                self.over.wait(0.02)
            return
        try:
            self._work(self._channel)
        except GONE:  # what was asked has no answer
            self._leave()

    def _work(self, channel: Channel) -> None:
        if self._late and self._chance.random() < 0.3:
            self._hand_in(channel, self._late.pop(self._chance.randrange(len(self._late))))
        if not self._credits:
            self._grant(channel)
        for held in self._lease(channel):
            self._use(channel, held)
        if time.monotonic() - self._heard > RENEW_SECONDS:
            channel.hold()
            self._heard = time.monotonic()
        if self._chance.random() < 0.02 and not self.diligent.is_set():
            self._leave(in_order=self._chance.random() < 0.5)

    def _use(self, channel: Channel, held: Held) -> None:
        """Do at random what workers do with a lease. A diligent hand only hands in."""
        what = "hand in" if self.diligent.is_set() else self._chance.choices(list(USES), list(USES.values()))[0]
        match what:
            case "hand in":
                self._hand_in(channel, held)
            case "slow":
                self.over.wait(self._chance.uniform(0, SLOW_SECONDS))
                self._hand_in(channel, held)
            case "twice":
                self._hand_in(channel, held)
                self._hand_in(channel, replace(held, score=self._score()))  # shows which of the two counted
            case "late" if len(self._late) < HELD_MOST:
                self._late.append(held)
            case "release":
                number = self._call("release", held)
                channel.release([held.pair])
                self._history.answer(number, status=200)
            case "renew":
                number = self._call("renew", held)
                self._history.answer(number, status=200, lost=channel.hold([held.pair]))
                self._hand_in(channel, held)
            case "forge":
                forged = held.token[:-1] + ("1" if held.token.endswith("0") else "0")
                forgery = replace(held, token=forged, label="forged", score=self._score())
                self._hand_in(channel, forgery, forged=True)
                self._hand_in(channel, held)
            case "spoil":
                number = self._call("spoil", held)
                spoiled = {**self._result(held), "results": 2 * self._result(held)["results"]}
                self._history.answer(number, status=200, outcome=channel.complete([spoiled])[0])
            case _:
                pass

    def _connect(self) -> bool:
        """Open a channel, and say which of the leases that are kept for later are still held."""
        tokens = self._doors.tokens()
        if len(tokens) <= self._number:
            return False
        worker = tokens[-1 - self._number] if self._chance.random() < 0.9 else self._chance.choice(tokens)
        kept = [one for one in self._late if one.worker == worker and self._chance.random() < 0.5]
        number = self._history.call(self.name, "open", job=_job(worker), held=[one.id for one in kept])
        try:
            self._channel = Channel(self._url, worker)
            lost = self._channel.hold([one.pair for one in kept])
        except Refused as refused:
            self._history.answer(number, status=refused.answer.status)
            if refused.answer.status in (401, 410):
                self._doors.over(worker)
            return False
        except GONE as error:
            self._history.answer(number, error=type(error).__name__)
            self._leave()
            self._patience()
            return False
        self._history.answer(number, status=101, lost=lost)
        self._heard = time.monotonic()
        return True

    def _leave(self, *, in_order: bool = False) -> None:
        channel, self._channel = self._channel, None
        self._credits.clear()
        if channel is not None:
            if not in_order:
                channel.break_off()
            with suppress(*GONE):
                channel.close()

    def _grant(self, channel: Channel) -> None:
        """Ask for some predictions. Each credit is a call of its own, and comes before its lease."""
        more = self._chance.randint(1, 4)
        self._credits += [self._history.call(self.name, "lease", job=_job(channel.token)) for _ in range(more)]
        channel.grant(more)

    def _lease(self, channel: Channel) -> list[Held]:
        found = []
        try:
            leases = channel.lease(len(self._credits), self._chance.choice((0.01, 0.05, 0.2)), 0.0)
        except (struct.error, ValueError, KeyError, IndexError, AssertionError):
            self._history.answer(self._credits.popleft(), status=200, leases=[["", "", "unreadable"]])
            return []
        for lease in leases:
            picture = unpack(memoryview(lease["blob"]))[0]
            noted = [[lease["id"], lease["token"], digest(picture)]]
            self._history.answer(self._credits.popleft(), status=200, leases=noted)
            label = self._pictures.label(picture)
            found.append(Held(channel.token, lease["id"], lease["token"], label, self._score()))
        return found

    def _hand_in(self, channel: Channel, held: Held, *, forged: bool = False) -> None:
        """Hand in a result. If its outcome does not come, it will be handed in again later."""
        number = self._call("complete", held, score=held.score, forged=forged)
        outcome = "again"
        try:
            outcome = channel.complete([self._result(held)])[0]
        except GONE as error:
            self._history.answer(number, error=type(error).__name__)
            raise
        finally:
            if outcome == "again" and not forged:
                self._late = [*self._late[1 - HELD_MOST :], held]
        if outcome == "again":  # nobody knows whether it counts
            self._history.answer(number, error=outcome)
        else:
            self._history.answer(number, status=200, outcome=outcome)

    @staticmethod
    def _result(held: Held) -> dict[str, Any]:
        results = [{"labels": [{"label": held.label, "score": held.score}]}]
        return {**held.pair, "results": results, "model": default_model(), "predict_ms": 1.0}

    def _call(self, what: str, held: Held, **facts: Any) -> int:
        return self._history.call(self.name, what, job=_job(held.worker), id=held.id, token=held.token, **facts)

    def _score(self) -> float:
        self._results += 1
        return (self._results % SCORES) / 1e6


def _job(worker: str) -> str:
    return worker.split(".")[1]
