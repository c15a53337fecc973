"""The states of a prediction, the one table of legal edges, and ids that tell their time."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable, Mapping
from enum import StrEnum

Clock = Callable[[], float]  # seconds since the epoch


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
_ID = re.compile(rf"p[0-9a-z]{{{_TIME_DIGITS + _RANDOM_DIGITS}}}")


def _base36(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def new_id(clock: Clock) -> str:
    """A new prediction id: ``p``, the millisecond, 128 random bits; sorts by time, cannot be guessed."""
    return f"p{_base36(int(clock() * 1000), _TIME_DIGITS)}{_base36(secrets.randbits(128), _RANDOM_DIGITS)}"


def is_id(text: str) -> bool:
    """Whether a text has the form of an id. Others stay away from the databases, which do not take every text."""
    return _ID.fullmatch(text) is not None


def id_time(key: str) -> float | None:
    """When that id was made, in epoch seconds; None when it is no id of ours.

    An id of ours without a row was purged (410 Gone) when it is old enough, and never accepted (404) otherwise.
    """
    return int(key[1 : 1 + _TIME_DIGITS], 36) / 1000 if is_id(key) else None
