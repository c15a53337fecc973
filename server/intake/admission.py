"""What is let in: predictions while their queue has a place, bodies while there is memory for them."""

from __future__ import annotations

from collections import Counter

from server.queue.asking import Recent
from server.queue.facts.records import Depth


class Gate:
    """Whether a tier's queue has a place, as far as is known before a body is read.

    It is full when the last count and those let in since reach the limit: a refusal then costs no upload and no write.
    """

    def __init__(self, depths: Recent[dict[str, Depth]]) -> None:
        self._depths = depths
        self._counted: dict[str, Depth] = {}
        self._since: Counter[str] = Counter()

    async def enter(self, tier: str, limit: int) -> int:
        """Let one in and return 0, or return how many wait when that is ``limit`` or more."""
        counted = await self._depths.get()
        if counted is not self._counted:
            self._counted, self._since = counted, Counter()
        queued = self._since[tier] + (counted[tier].queued if tier in counted else 0)
        if queued >= limit:
            return queued
        self._since[tier] += 1
        return 0


class Budget:
    """Bytes that may be held in memory by all requests together."""

    def __init__(self, most: int) -> None:
        self.most = self._left = most

    def take(self, size: int) -> bool:
        """Whether there were so many left; they are no longer."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        """They are free again."""
        self._left += size
