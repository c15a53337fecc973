"""The states of a prediction, the one table of legal edges, and ids that tell their time."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Callable, Mapping
from enum import StrEnum

Clock = Callable[[], float]  # seconds since the epoch

ANONYMOUS = "anonymous"  # the owner of what comes without a key


class Status(StrEnum):
    """Where a prediction stands."""

    QUEUED = "queued"
    LEASED = "leased"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"
    ABORTED = "aborted"


EDGES: Mapping[Status, frozenset[Status]] = {
    # A late result of a lost lease may still finish a prediction that waits again: hence queued -> succeeded.
    Status.QUEUED: frozenset(set(Status) - {Status.QUEUED}),
    # It has been started, so it can no longer be aborted.
    Status.LEASED: frozenset(set(Status) - {Status.LEASED, Status.ABORTED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELED: frozenset(),
    Status.EXPIRED: frozenset(),
    Status.ABORTED: frozenset(),
}
FINAL = frozenset(status for status, targets in EDGES.items() if not targets)

_DIGITS = string.digits + string.ascii_lowercase
_TIME_DIGITS = 9  # milliseconds until the year 5188
_RANDOM_DIGITS = 25  # 36 ** 25 > 2 ** 128
_TAG_DIGITS = 8  # 36 ** 8 > 2 ** 41
_MADE_DIGITS = 1 + _TIME_DIGITS + _RANDOM_DIGITS
# Ids of older versions have no tag.
_ID = re.compile(rf"p[0-9a-z]{{{_MADE_DIGITS - 1}}}(?:[0-9a-z]{{{_TAG_DIGITS}}})?")


def _base36(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def new_id(clock: Clock) -> str:
    """What an id begins with: ``p``, the millisecond, 128 random bits; sorts by time, cannot be guessed."""
    return f"p{_base36(int(clock() * 1000), _TIME_DIGITS)}{_base36(secrets.randbits(128), _RANDOM_DIGITS)}"


def is_id(text: str) -> bool:
    """Whether a text has the form of an id. Others stay away from the databases, which do not take every text."""
    return _ID.fullmatch(text) is not None


class Ids:
    """Makes ids with a tag that proves their origin, and who owns them.

    ``key`` is known to the servers of one installation only. So nobody can tell an id of somebody else from one that
    never was, and the server need not look for it.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def new(self, clock: Clock, owner: str = ANONYMOUS) -> str:
        """A new prediction id of this owner, with its tag."""
        made = new_id(clock)
        return made + self._tag(made, owner)

    def made_at(self, text: str, owner: str = ANONYMOUS) -> float | None:
        """When that id was made for this owner, in epoch seconds; None when no server of this installation did.

        An id of ours without a row was purged (410 Gone) when it is old enough, and never accepted (404) otherwise.
        """
        made, tag = text[:_MADE_DIGITS], text[_MADE_DIGITS:]
        if not is_id(text) or not hmac.compare_digest(tag, self._tag(made, owner)):
            return None
        return int(made[1 : 1 + _TIME_DIGITS], 36) / 1000

    def _tag(self, made: str, owner: str) -> str:
        # As in older versions for those without a key, whose ids stay valid.
        text = made if owner == ANONYMOUS else f"{made} {owner}"
        digest = hmac.digest(self._key, text.encode(), hashlib.sha256)
        return _base36(int.from_bytes(digest[:8]) % 36**_TAG_DIGITS, _TAG_DIGITS)


def has_tag(text: str) -> bool:
    """Whether an id has a tag; those of older versions have none."""
    return len(text) > _MADE_DIGITS
