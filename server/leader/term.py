"""The time in which this server leads."""

from __future__ import annotations

import threading


class Term:
    """It is over once another server leads or this one stops. Safe from any thread."""

    def __init__(self, leases_count_at: float) -> None:
        """Until ``leases_count_at`` no lease is lost: those that ran out may have had no server to renew them."""
        self._leases_count_at = leases_count_at
        self._over = threading.Event()

    def leases_count(self, now: float) -> bool:
        """Whether workers have had the time to renew their leases."""
        return now >= self._leases_count_at

    @property
    def over(self) -> bool:
        """Whether long work shall stop where it is."""
        return self._over.is_set()

    def rest(self, seconds: float) -> None:
        """Wait so long, or until it is over."""
        self._over.wait(seconds)

    def end(self) -> None:
        """End it."""
        self._over.set()
