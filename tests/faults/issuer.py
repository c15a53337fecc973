"""The harness as an operator: it makes keys, sees whether they open the server, and revokes them."""

from __future__ import annotations

import http.client
import random
from collections import deque
from collections.abc import Callable

from tests.access import KEYS, Issued, Operator, issued
from tests.faults.actor import Actor
from tests.faults.clients import ask
from tests.faults.history import History
from tests.running import Answer

KEPT_MOST = 8
PAUSE_SECONDS = 0.05
GONE = (OSError, http.client.HTTPException)


class Issuer(Actor):
    """Makes, tries and revokes keys of an owner who has no predictions, at random.

    It calls ``patience`` when no answer came, which returns when another try makes sense.
    """

    def __init__(self, seed: int, port: int, operator: Operator, history: History, patience: Callable[[], object]):
        super().__init__("issuer")
        self._chance = random.Random(f"{seed} {self.name}")
        self._address, self._operator, self._history, self._patience = ("127.0.0.1", port), operator, history, patience
        self._live: deque[Issued] = deque(maxlen=KEPT_MOST)
        self._revoked: deque[Issued] = deque(maxlen=KEPT_MOST)

    def step(self) -> None:
        """Make a key, try one or revoke one."""
        chance = self._chance
        if len(self._live) < KEPT_MOST and chance.random() < 0.2:
            self._make()
        elif self._live and chance.random() < 0.1:
            self._revoke(self._live[0])
        elif self._live or self._revoked:
            self.enter(chance.choice([*self._live, *self._revoked]))
        self.over.wait(PAUSE_SECONDS)

    def settle(self) -> None:
        """Try all keys once more."""
        for key in (*self._live, *self._revoked):
            self.enter(key)

    def enter(self, key: Issued) -> None:
        """See whether a key opens the server."""
        number = self._history.call(self.name, "enter", key=key.id)
        answer = self._answered(number, lambda: ask(self._address, "GET", "/v1/predictions?limit=1", None, key.headers))
        if answer is not None:
            self._history.answer(number, status=answer.status)

    def _make(self) -> None:
        number = self._history.call(self.name, "issue")
        body = {"owner": "dahlia", "tiers": ["free"]}
        answer = self._answered(number, lambda: self._operator.ask("POST", KEYS, body))
        if answer is not None and answer.status == 201:
            key = issued(answer)
            self._history.answer(number, status=201, key=key.id)
            self._live.append(key)
        elif answer is not None:
            self._history.answer(number, status=answer.status)

    def _revoke(self, key: Issued) -> None:
        """Revoke the key; if no answer comes, it is not tried again until it is known to be revoked."""
        number = self._history.call(self.name, "revoke", key=key.id)
        answer = self._answered(number, lambda: self._operator.revoke(key.id))
        if answer is None:
            return
        self._history.answer(number, status=answer.status)
        if answer.status < 300:
            self._live.remove(key)
            self._revoked.append(key)

    def _answered(self, number: int, do: Callable[[], Answer]) -> Answer | None:
        try:
            return do()
        except GONE as error:
            self._history.answer(number, error=type(error).__name__)
            self._patience()
            return None
