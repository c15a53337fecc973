"""Whose keys the clients of a run have, and what strangers may learn of others' predictions and try with them."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.access import Operator

ANONYMOUS = "anonymous"
KNOWN_MOST = 30  # predictions and wishes of each owner that strangers may choose from
LIMITS: Mapping[str, Mapping[str, float]] = {"cedar": {"perSecond": 4, "burst": 6, "perDay": 12}}
OWNERS = ("amber", "cedar", ANONYMOUS, "birch", "amber")
"""Of the clients, in turn: two clients of one owner have a key each."""


@dataclass(frozen=True, slots=True)
class Member:
    """Who a client is: an owner with a key, or anybody without one."""

    owner: str = ANONYMOUS
    key: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What says so in a request."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def named(self, key: str) -> str:
        """The name in a history for what this owner asks for with an idempotency key."""
        return named(self.owner, key)


def named(owner: str, key: str) -> str:
    """The name for what an owner asks for with an idempotency key, which other owners may have, too."""
    return key if owner == ANONYMOUS else f"{owner}/{key}"


def members(operator: Operator, owners: Sequence[str], *tiers: str) -> list[Member]:
    """Clients of these owners, each with a new key for these tiers, or for free, unless it is nobody's."""
    found = []
    for owner in owners:
        limits = {"limits": LIMITS[owner]} if owner in LIMITS else {}
        found.append(Member() if owner == ANONYMOUS else Member(owner, operator.create(owner, *tiers, **limits).key))
    return found


class Town:
    """Where clients hear of others' predictions, as from a log or a screen that somebody left open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[str, deque[tuple[str, str, object]]] = {}
        self._borrowed: set[tuple[str, str]] = set()

    def tell(self, owner: str, prediction_id: str, key: str, picture: object) -> None:
        """Let everybody know of a prediction, and of the idempotency key and the picture that it was asked for with."""
        with self._lock:
            self._told.setdefault(owner, deque(maxlen=KNOWN_MOST)).append((prediction_id, key, picture))

    def strange(self, owner: str, chance: random.Random) -> tuple[str, str, object] | None:
        """A prediction of another one who has a key, as ``tell`` was told of it; None if there is none yet."""
        with self._lock:
            found = [one for name, told in self._told.items() if name not in (owner, ANONYMOUS) for one in told]
            return chance.choice(found) if found else None

    def borrow(self, owner: str, key: str) -> bool:
        """Whether this owner may take another's idempotency key: once, because the server forgets old keys."""
        with self._lock:
            new = (owner, key) not in self._borrowed
            self._borrowed.add((owner, key))
            return new
