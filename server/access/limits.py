"""What each caller has used of its limits in a tier, as one server knows it. Pure: it asks nobody and never waits.

Requests are counted by a token bucket that every server keeps for itself. From it each takes what the caller has used
at the others, as soon as it learns of that; the bucket can be overdrawn by it. So a caller that floods several servers
gets its limit once, and not once from each.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from server.queue import Use, Used
from server.settings.records import CallerLimits

DAY_SECONDS = 86400
MOST_ACCOUNTS = 10_000
KEPT_SECONDS = 600.0  # how long a row of what was used outlives its last change, or the day whose pictures it counts
NEAR_SHARE, NEAR_PICTURES = 0.05, 100  # of a day's pictures are left: from then on, each request asks the table
FRESH_SECONDS = 5.0  # since the table was last asked about an active caller
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Left:
    """What is left to a caller; None where there is no limit. ``more_in`` seconds there is one request more."""

    requests: int | None
    more_in: float
    pictures: int | None
    midnight_in: float


@dataclass(slots=True)
class _Account:
    day: int
    """Days since the epoch: of the pictures, and of the row in the table."""
    at: float
    limits: CallerLimits
    spent: float = 0.0
    """Of the bucket, at the moment ``at``."""
    learned_at: float = 0.0
    seen: int | None = None
    """Requests of the day at all servers, when the table was last asked; None before."""
    requests: int = 0
    pictures: int = 0
    """Not handed to the table yet, as ``requests``."""
    flying: int = 0
    """Pictures that were handed to the table, which has not answered."""
    total: int | None = None
    """Pictures of the day at all servers, when the table was last asked today; None before."""

    @property
    def used(self) -> int:
        return (self.total or 0) + self.flying + self.pictures


def burst_of(limits: CallerLimits) -> int:
    """How many requests the bucket holds."""
    return limits.burst or max(1, math.ceil(limits.per_second))


class Limits:
    """The accounts of callers, each in a tier; those that were used last, ``most`` at most. Not safe for threads.

    ``clock`` is in epoch seconds. What is used goes to the table: ``due`` says what, then ``learn`` or ``failed`` is
    called, in the order in which it was handed over.
    """

    def __init__(self, clock: Callable[[], float], most: int = MOST_ACCOUNTS) -> None:
        self._clock, self._most = clock, most
        self._accounts: OrderedDict[tuple[str, str], _Account] = OrderedDict()
        self._active: dict[tuple[str, str], None] = {}
        self._late: list[Use] = []  # of days that are over

    def request(self, tier: str, caller: str, limits: CallerLimits) -> float:
        """Let a request in and answer 0, or answer in how many seconds the next one may come."""
        if not limits.per_second:
            return 0.0
        account = self._account(tier, caller, limits)
        burst = burst_of(limits)
        if account.spent + 1 > burst + ROUNDING:
            return (account.spent + 1 - burst) / limits.per_second
        account.spent += 1
        account.requests += 1
        return 0.0

    def pictures_left(self, tier: str, caller: str, limits: CallerLimits) -> int | None:
        """How many pictures of the day are left; None before the table was asked."""
        account = self._account(tier, caller, limits)
        return None if account.total is None else max(0, limits.per_day - account.used)

    def take(self, tier: str, caller: str, limits: CallerLimits, pictures: int) -> bool:
        """Count pictures of the day and answer True, unless so few are left that only the table may decide."""
        left = self.pictures_left(tier, caller, limits)
        if left is None or left - pictures < max(NEAR_SHARE * limits.per_day, NEAR_PICTURES):
            return False
        self._accounts[tier, caller].pictures += pictures
        return True

    def give_back(self, tier: str, caller: str, limits: CallerLimits, pictures: int) -> None:
        """Pictures that were counted were not accepted after all."""
        self._account(tier, caller, limits).pictures -= pictures

    def left(self, tier: str, caller: str, limits: CallerLimits) -> Left:
        """What is left to a caller. It counts as asking for nothing."""
        now = self._clock()
        account = self._accounts.get((tier, caller))
        requests = pictures = None
        more_in = 0.0
        if limits.per_second:
            spent = _spent(account, now, limits.per_second) if account else 0.0
            full = burst_of(limits)
            requests = max(0, math.floor(full - spent + ROUNDING))
            more_in = max(0.0, (requests + 1 - full + spent) / limits.per_second) if requests < full else 0.0
        if limits.per_day:
            used = account.used if account and account.day == _day(now) else 0
            pictures = max(0, limits.per_day - used)
        return Left(requests, more_in, pictures, (_day(now) + 1) * DAY_SECONDS - now)

    def due(self, most: int) -> list[Use]:
        """What of active callers the table has to hear, and who wants to know what others used; ``most`` at most."""
        uses, self._late = self._late[:most], self._late[most:]
        while self._active and len(uses) < most:
            key = next(iter(self._active))
            del self._active[key]
            if key in self._accounts:
                uses.append(self.hand_over(*key))
        return uses

    def hand_over(self, tier: str, caller: str) -> Use:
        """What the table has to hear of one caller, whose account is there."""
        account = self._accounts[tier, caller]
        use = _use(tier, caller, account, self._clock())
        account.flying += account.pictures
        account.requests = account.pictures = 0
        return use

    def learn(self, use: Use, used: Used) -> None:
        """The table has heard it, and ``used`` is what all servers together have let in of its day."""
        account = self._accounts.get((use.tier, use.caller))
        if account is None or account.day != use.day:
            return
        account.flying -= use.pictures
        account.total = used.pictures
        now = self._clock()
        spent = _spent(account, now, account.limits.per_second)
        if account.seen is not None:
            others = max(0, used.requests - account.seen - use.requests)
            # After a long time nobody knows when the others let them in. At most a full bucket of them can be new.
            fresh = now - account.learned_at <= FRESH_SECONDS
            spent += others if fresh else min(others, burst_of(account.limits))
        account.spent, account.at, account.learned_at, account.seen = spent, now, now, used.requests

    def failed(self, use: Use) -> None:
        """The table has not heard it, as far as is known: it will hear it later."""
        account = self._accounts.get((use.tier, use.caller))
        if account is None:
            return
        if account.day == use.day:
            account.flying -= use.pictures
            account.requests += use.requests
            account.pictures += use.pictures
            self._active[use.tier, use.caller] = None
        elif len(self._late) < self._most:
            self._late.append(use)

    def _account(self, tier: str, caller: str, limits: CallerLimits) -> _Account:
        """The account of a caller that asks for something, as it is now."""
        key, now = (tier, caller), self._clock()
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account(_day(now), now, limits)
            if len(self._accounts) > self._most:
                # The one that asked longest ago: what it used was handed over long since.
                self._active.pop(self._accounts.popitem(last=False)[0], None)
        else:
            self._accounts.move_to_end(key)
        if account.day != _day(now):
            self._begin_day(key, account, now)
        account.spent, account.at, account.limits = _spent(account, now, limits.per_second), now, limits
        self._active[key] = None
        return account

    def _begin_day(self, key: tuple[str, str], account: _Account, now: float) -> None:
        if (account.requests or account.pictures) and len(self._late) < self._most:
            self._late.append(_use(*key, account, now))
        account.day, account.total = _day(now), None
        account.requests = account.pictures = account.flying = 0
        account.seen = None if account.seen is None else 0  # the row of the new day begins with 0


def _day(now: float) -> int:
    return int(now // DAY_SECONDS)


def _spent(account: _Account, now: float, rate: float) -> float:
    return max(0.0, account.spent - (now - account.at) * rate)


def _use(tier: str, caller: str, account: _Account, now: float) -> Use:
    until = ((account.day + 1) * DAY_SECONDS if account.limits.per_day else now) + KEPT_SECONDS
    return Use(tier, caller, account.day, account.requests, account.pictures, until)
