"""Clients that submit known pictures, read, cancel, and hang up. The history records all of it.

With an idempotency key they try again after any failure; without one, only if they know that nothing was kept. Those
who are somebody's also try what they must not: to see and to end others' predictions.
"""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tests.faults.actor import Actor
from tests.faults.follower import Follower, follow, told
from tests.faults.history import FINAL, History, facts, listed
from tests.faults.owners import Member, Town
from tests.faults.pictures import MARK, POISON, SLOW, SLOWER, Picture, Pictures
from tests.running import Answer

TIMEOUT_SECONDS = 30.0
REFUSED_FOR_NOW = (0, 429, 500, 502, 503)
UNKNOWN = (404, 410)
PAUSE_SECONDS = 0.02
WAITS = ("", "", "wait=1", "wait=5")  # without a wish the tier's own time counts
HANG_UP_SECONDS = (0.02, 0.1, 0.3)
OUTCOME_UNKNOWN, DAY_LIMIT = "outcome_unknown", "day_limit"
LISTED_MOST = 100
SPENT_PAUSE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Habits:
    """How often a client does something, in percent. ``pending`` is how many unfinished predictions it has at most.

    ``keyless``: of the requests that wait for their results, so many have no key, and so may wait in the lobby;
    ``hang_ups``: of these, the client hangs up on so many. ``follows``: predictions, by their events. ``strange``:
    something that is another's, or a list of one's own.
    """

    cancels: int = 8
    cancel_after: int = 5
    waits: int = 60
    keyless: int = 70
    hang_ups: int = 10
    strange: int = 15
    follows: int = 30
    poison: int = 0
    slow: int = 0
    slower: int = 0
    pending: int = 6


@dataclass(slots=True)
class Wish:
    """A picture that a client wants classified. ``key`` is its idempotency key unless it is ``keyless``.

    ``patience`` is after how many seconds the client hangs up.
    """

    key: str
    picture: Picture
    headers: dict[str, str]
    keyless: bool = False
    patience: float = TIMEOUT_SECONDS
    id: str = ""
    refused: bool = False


def ask(
    address: tuple[str, int],
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> Answer:
    """Make one request on a connection of its own."""
    with closing(http.client.HTTPConnection(*address, timeout=timeout)) as connection:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())


class Client(Actor):
    """A client. It calls ``patience`` when no answer came, which returns when another try makes sense.

    ``town`` is where it hears of others' predictions; without one it keeps to its own. It asks ``tier``.
    """

    def __init__(
        self,
        name: str,
        seed: int,
        address: tuple[str, int],
        history: History,
        pictures: Pictures,
        habits: Habits,
        patience: Callable[[], object],
        member: Member | None = None,
        town: Town | None = None,
        tier: str = "free",
    ) -> None:
        super().__init__(name)
        self.address, self.member, self._town = address, member or Member(), town
        self._path = f"/img-classification/{tier}"
        self._chance = random.Random(f"{seed} {name}")
        self._history, self._pictures, self._habits, self._patience = history, pictures, habits, patience
        self._wishes = 0
        self.unanswered: list[Wish] = []
        self.pending: dict[str, Wish] = {}
        self.ended: list[str] = []
        self._follower = Follower(self._chance)

    def step(self) -> None:
        """Submit, read or cancel, or do what a stranger does, at random."""
        chance = self._chance
        if self._town is not None and chance.randrange(100) < self._habits.strange:
            self._be_strange(self._town)
        elif len(self.pending) < self._habits.pending and (not self.pending or chance.random() < 0.5):
            self.submit(self._wish())
        elif chance.randrange(100) < self._habits.cancels:
            self._on("cancel", "DELETE", chance.choice(list(self.pending)))
        elif chance.randrange(100) < self._habits.follows:
            self.follow()
        elif self.ended and chance.random() < 0.2:
            self.look(chance.choice(self.ended), 0)
        else:
            self.look(chance.choice(list(self.pending)), chance.choice((0, 0.2, 0.5)))

    def submit(self, wish: Wish) -> None:
        """Repeat the request until the server accepts or refuses it, or the client is stopped or may not repeat it."""
        self._try(wish)
        while not (wish.id or wish.refused or self.over.is_set()):
            self._try(wish)
        if not (wish.id or wish.refused):
            self.unanswered.append(wish)

    def look(self, prediction_id: str, wait: float) -> str:
        """GET a prediction; returns its state, or an empty text when that is not known."""
        return self._on("get", "GET", prediction_id, f"?wait={wait:g}" if wait else "")

    def follow(self) -> None:
        """Follow some predictions by their events for a while, or go on with a stream that broke."""
        knew, last = self._follower.choose(list(self.pending), self.ended)
        numbers = {one: self._call("follow", id=one, last=last, knew=state) for one, state in knew.items()}
        found = follow(self.address, list(knew), self.member.headers, last, self._follower.seconds())
        for one, number in numbers.items():
            noted = told(found, one)
            self._history.answer(number, **noted)
            knew[one] = str(noted.get("state") or knew[one])
            if knew[one] in FINAL and (wish := self.pending.get(one)):
                self._file(wish, knew[one])
        self._follower.keep(knew, found)
        if not found.answer.status and found.how != "left":
            self._patience()
        elif found.answer.status in REFUSED_FOR_NOW:
            time.sleep(PAUSE_SECONDS)

    def settle(self, deadline: float) -> None:
        """Get an answer to every wish, and see every accepted prediction end.

        It gives up when ``time.monotonic`` comes to the deadline.
        """
        for wish in self.unanswered:
            while not (wish.id or wish.refused) and time.monotonic() < deadline:
                self._try(wish)
        while self.pending and time.monotonic() < deadline:
            self.look(next(iter(self.pending)), 2)
        for prediction_id in self.ended:  # once more, so that the judge sees whether ends have changed
            self.look(prediction_id, 0)

    def _try(self, wish: Wish) -> None:
        number = self._call(
            "submit",
            key=self.member.named(wish.key),
            keyless=wish.keyless,
            picture=wish.picture.name,
            digest=wish.picture.digest,
            poison=wish.picture.mark == POISON,
            cancel_after=wish.headers.get("Cancel-After"),
        )
        headers = {**wish.headers, "Content-Type": "application/octet-stream"}
        if not wish.keyless:
            headers["Idempotency-Key"] = wish.key
        answer = self._answered(number, "POST", self._path, wish.picture.data, headers, wish.patience)
        noted = facts(answer)
        if "id" in noted:
            wish.id = noted["id"]
            self._file(wish, noted["state"])
            if self._town is not None and not wish.keyless:
                self._town.tell(self.member.owner, wish.id, wish.key, wish.picture)
        elif noted.get("code") == DAY_LIMIT:
            wish.refused = True
            self.over.wait(SPENT_PAUSE_SECONDS)
        elif answer.status not in REFUSED_FOR_NOW or (wish.keyless and _is_open(answer)):
            wish.refused = True

    def _wish(self) -> Wish:
        habits, chance = self._habits, self._chance
        marks = {POISON: habits.poison, SLOW: habits.slow, SLOWER: habits.slower}
        marks[bytes(MARK)] = 100 - sum(marks.values())
        mark = chance.choices(list(marks), list(marks.values()))
        waits = chance.randrange(100) < habits.waits
        headers = {"Prefer": chance.choice(WAITS) if waits else "respond-async"}
        if chance.randrange(100) < habits.cancel_after:
            headers["Cancel-After"] = chance.choice(("1s", "2s", "5s"))
        self._wishes += 1
        wish = Wish(f"{self.name}-{self._wishes}", self._pictures.make(chance, mark[0]), headers)
        wish.keyless = waits and chance.randrange(100) < habits.keyless
        if wish.keyless and chance.randrange(100) < habits.hang_ups:
            wish.patience = chance.choice(HANG_UP_SECONDS)
        return wish

    def _on(self, do: str, method: str, prediction_id: str, query: str = "") -> str:
        number = self._call(do, id=prediction_id)
        answer = self._answered(number, method, f"/v1/predictions/{prediction_id}{query}", None, {})
        state = str(facts(answer).get("state", ""))
        if answer.status in UNKNOWN:
            self.pending.pop(prediction_id, None)  # whether it may be unknown is for the judge to say
        elif state in FINAL and (wish := self.pending.get(prediction_id)):
            self._file(wish, state)
        return state

    def _be_strange(self, town: Town) -> None:
        """Look at another's prediction, cancel it, ask for it with its idempotency key, or list one's own."""
        chance, strange = self._chance, town.strange(self.member.owner, self._chance)
        what = chance.choice(("list", "peek", "meddle", "borrow"))
        if what == "list" or strange is None:
            self._list()
            return
        prediction_id, key, picture = strange
        if what == "borrow":
            assert isinstance(picture, Picture)
            if len(self.pending) < self._habits.pending and town.borrow(self.member.owner, key):
                self.submit(Wish(key, picture, {"Prefer": "respond-async"}))
        else:
            number = self._call(what, id=prediction_id)
            path = f"/v1/predictions/{prediction_id}"
            if what == "meddle":
                self._answered(number, "DELETE", path, None, {})
            else:
                self._answered(number, "GET", path + chance.choice(("", "?wait=0.2", "/events")), None, {})

    def _list(self) -> None:
        number = self._call("list")
        self._answered(number, "GET", f"/v1/predictions?limit={LISTED_MOST}", None, {}, note=listed)

    def _call(self, do: str, **known: object) -> int:
        return self._history.call(self.name, do, owner=self.member.owner, **known)

    def _file(self, wish: Wish, state: str) -> None:
        self.pending.pop(wish.id, None)
        if state in FINAL:
            self.ended.append(wish.id)
        else:
            self.pending[wish.id] = wish

    def _answered(
        self,
        number: int,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        seconds: float = TIMEOUT_SECONDS,
        note: Callable[[Answer], dict[str, Any]] = facts,
    ) -> Answer:
        try:
            answer = ask(self.address, method, path, body, {**headers, **self.member.headers}, seconds)
        except (OSError, http.client.HTTPException) as error:
            hung_up = seconds < TIMEOUT_SECONDS and isinstance(error, TimeoutError)
            self._history.answer(number, error="hung up" if hung_up else type(error).__name__)
            if not hung_up:
                self._patience()
            return Answer(0, {}, b"")
        self._history.answer(number, **note(answer))
        if answer.status in REFUSED_FOR_NOW:
            time.sleep(PAUSE_SECONDS)
        return answer


def _is_open(answer: Answer) -> bool:
    """Whether nobody can say if the request was accepted."""
    return not answer.status or facts(answer).get("code") == OUTCOME_UNKNOWN


def settle(clients: list[Client], seconds: float) -> None:
    """Let all clients settle at the same time, within so many seconds."""
    deadline = time.monotonic() + seconds
    with ThreadPoolExecutor(len(clients)) as pool:
        for done in [pool.submit(client.settle, deadline) for client in clients]:
            done.result()
