"""Decides what is let in: predictions while their queue has a place, bodies while there is memory for them."""

from __future__ import annotations

import secrets
from collections import Counter
from http import HTTPStatus

from server.problems import Problem
from server.queue import Depth, Recent

FULL_RETRY_SECONDS = (1, 2, 3, 4, 5)


class Gate:
    """Refuses requests to a tier whose queue is full, before their bodies are read: so a refusal costs no upload.

    A queue counts as full when the last count and the requests that were let in since reach the limit.
    """

    def __init__(self, depths: Recent[dict[str, Depth]]) -> None:
        self._depths = depths
        self._counted: dict[str, Depth] = {}
        self._since: Counter[str] = Counter()

    async def enter(self, tier: str, limit: int) -> None:
        """Let one in. Raises ``Problem`` when ``limit`` or more wait, and what the queue raises."""
        counted = await self._depths.get()
        if counted is not self._counted:  # ``Recent`` gives the same object until it asks again
            self._counted, self._since = counted, Counter()
        queued = self._since[tier] + (counted[tier].queued if tier in counted else 0)
        if queued >= limit:
            raise queue_full(tier, queued, limit)
        self._since[tier] += 1


class Budget:
    """Bytes that may be held in memory by all requests together."""

    def __init__(self, most: int) -> None:
        self.most = self._left = most

    def take(self, size: int) -> None:
        """Reserve so many. Raises ``Problem`` when fewer are left."""
        if size > self._left:
            detail = f"uploads under way take the {self.most} bytes that all of them may; nothing was kept"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry_after=1, limit_bytes=self.most)
        self._left -= size

    def give_back(self, size: int) -> None:
        """Free so many."""
        self._left += size


def queue_full(tier: str, queued: int, limit: int) -> Problem:
    """Return the problem of a request for which a tier's queue has no place."""
    detail = f"{queued} predictions wait in the tier {tier}; {limit} may"
    spread = secrets.choice(FULL_RETRY_SECONDS)  # so that not all clients come back at once
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS, "queue_full", detail, retry_after=spread, limit_queued=limit, queued=queued
    )
