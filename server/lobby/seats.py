"""What the handout knows of the workers that are connected, and of the table."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from server.access.workers import Worker
from server.blobs import Piece
from server.queue import Leased, Place

ANY: Place = (-(1 << 62), 0, -math.inf)  # there may be anything in the table


@dataclass(frozen=True, slots=True)
class Handed:
    """A prediction for a worker. ``blob`` has the parts of its blob; None if they must be read from the store."""

    leased: Leased
    blob: Sequence[Piece] | None


class Peer(Protocol):
    """A worker that is connected."""

    worker: Worker

    def deliver(self, handed: Sequence[Handed]) -> Awaitable[None] | None:
        """Send predictions. Nothing more is delivered until the result is done; None: it is sent. Raises nothing."""

    def dismiss(self, code: int, reason: str) -> None:
        """End the connection."""

    def stopping(self) -> None:
        """Say that this server hands out nothing more."""


@dataclass(slots=True, eq=False)
class Seat:
    """What is known of a peer.

    ``barred``: the head of the table is not for it, as it holds something. ``full``: so much that it was given no more.
    """

    peer: Peer
    since: float
    credits: int = 0
    busy: bool = False
    barred: bool = False
    full: bool = False
    noted_at: float = -math.inf
    holds: dict[str, Leased] = field(default_factory=dict)

    @property
    def wants(self) -> bool:
        """Whether it would take something now."""
        return self.credits > 0 and not self.busy and not any(one.solo for one in self.holds.values())

    @property
    def turn(self) -> tuple[bool, float]:
        """Idle workers come first, and of these whoever was given work last: its caches still hold its network."""
        return bool(self.holds), -self.since


class Table:
    """What is known of the table's rows of one tier: ``head`` is the place of the first that may wait, if any may."""

    def __init__(self) -> None:
        self.head: Place | None = ANY
        self.news = 0
        self.due = 1
        """How many workers should ask."""
        self.asking = 0
