"""What the queue knows of Jobs. Moments are epoch seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JobRow:
    """A live Job. ``asked_at``: when its worker first asked for work; ``leased_at``: when it last got some.

    ``heard_at``: when it last asked for work or for more time; a request for work that got none is noted only once a
    tenth of a lease has passed since. ``model`` is which model its worker runs (``Served.key``); empty: not known.
    ``recalled_at``: when its worker was recalled, and ``reason`` is why; empty: it was not.
    """

    name: str
    tier: str
    run: str
    opened_at: float
    asked_at: float | None
    leased_at: float | None
    heard_at: float | None
    model: str = ""
    recalled_at: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A Job, live or over. ``ended_at`` is None while it lives; ``blamed``: it ended by its own fault.

    ``reason`` says why it ended, or why its worker was recalled.
    """

    name: str
    model: str
    opened_at: float
    ended_at: float | None = None
    reason: str = ""
    blamed: bool = False


@dataclass(frozen=True, slots=True)
class Strikes:
    """How many of the latest Jobs in a row ended, by their own fault, without ever having leased anything."""

    count: int
    last_reason: str
    last_ended_at: float | None
