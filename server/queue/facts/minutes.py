"""What happened to a tier's predictions in a minute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MINUTE_SECONDS = 60
KEPT_MINUTES = 60  # the present one among them


@dataclass(frozen=True, slots=True)
class Minute:
    """The predictions of one minute; ``at`` counts minutes since the epoch.

    ``failed`` are all that ended without a result or with an error, but for those that their callers canceled.
    ``waits`` counts those that succeeded by the class of the time from their acceptance to their first lease: see
    ``server.time_classes``.
    """

    at: int
    accepted: int = 0
    succeeded: int = 0
    failed: int = 0
    waits: Mapping[int, int] = field(default_factory=dict, hash=False)


def minute_of(seconds: float) -> int:
    """The minute of a moment, in epoch seconds."""
    return int(seconds // MINUTE_SECONDS)
