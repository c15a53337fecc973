"""What the queue keeps of callers: the keys of owners, and what was used of limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Key:
    """A key of an owner. Its secret is not kept, only ``digest`` (HMAC-SHA256 with the pepper, in hexadecimal).

    ``limits`` are those that replace the limits of its tiers, by their names in ``CallerLimits``. Moments are epoch
    seconds; None: never.
    """

    id: str
    owner: str
    tiers: tuple[str, ...]
    digest: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict, hash=False)
    weight: float = 1.0

    def status(self, now: float) -> str:
        """``revoked``, ``expired`` or ``active``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    def over(self, now: float) -> bool:
        """Whether it was revoked or has expired."""
        return self.status(now) != "active"


@dataclass(frozen=True, slots=True)
class KeptKeys:
    """All keys of the database after so many changes. ``pepper`` shows which pepper they were made with; "": none."""

    number: int
    pepper: str
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """What one server has let in of a caller since it last told: requests, and pictures, which can be negative.

    ``day`` counts days since the epoch. The table keeps it until ``until``.
    """

    tier: str
    caller: str
    day: int
    requests: int
    pictures: int
    until: float


@dataclass(frozen=True, slots=True)
class Used:
    """What all servers have let in of a caller in a day."""

    requests: int
    pictures: int
