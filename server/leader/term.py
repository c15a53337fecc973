"""The time in which this server leads."""

from __future__ import annotations

import threading


class Term:
    """One stretch of it: over once another server leads, or this one stops. Safe from any thread."""

    def __init__(self, leases_count_at: float) -> None:
        """Leases may have run out while no server was there to renew them: they count from ``leases_count_at`` on."""
        self._leases_count_at = leases_count_at
        self._over = threading.Event()

    def leases_count(self, now: float) -> bool:
        """Whether workers have had the time to renew their leases."""
        return now >= self._leases_count_at

    @property
    def over(self) -> bool:
        """Whether long work shall stop where it is."""
        return self._over.is_set()

    def end(self) -> None:
        """Have it over."""
        self._over.set()
