"""What many tests of the server begin with: a clock that they move, and a submission."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from server.queue import Submission, new_id


class HandClock:
    """A clock, in seconds, that a test moves. It begins at a moment since the epoch, or at any other."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def submission(clock: Callable[[], float], **changes: Any) -> Submission:
    """A request of one picture for the tier free, with a new id."""
    plain = Submission(
        id=new_id(clock),
        tier="free",
        model="lite0",
        images=1,
        size=1000,
        top_k=5,
        priority=0,
        deadline=600.0,
        idempotency_key=None,
        fingerprint=None,
        owner="anna",
        caller="owner:anna",
    )
    return replace(plain, **changes)
