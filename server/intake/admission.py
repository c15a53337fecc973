"""Decides which predictions are let in: those whose queue has a place."""

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


def queue_full(tier: str, queued: int, limit: int) -> Problem:
    """Return the problem of a request for which a tier's queue has no place."""
    detail = f"{queued} predictions wait in the tier {tier}; {limit} may"
    spread = secrets.choice(FULL_RETRY_SECONDS)  # so that not all clients come back at once
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS, "queue_full", detail, retry_after=spread, limit_queued=limit, queued=queued
    )
