"""Decides which predictions are let in: those whose queue has a place."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus

from server.access.allowances import Allowances
from server.access.callers import Caller
from server.intake.memory import Memory
from server.intake.storage_check import StorageCheck
from server.problems import Problem
from server.queue import Depth, Recent, Submission
from server.settings.records import Tier

FULL_RETRY_SECONDS = (1, 2, 3, 4, 5)
LEAST_SHARE = 0.7  # of a body is pictures: base64 takes four bytes for three, and JSON and forms a little more
NOTHING = Depth(0, 0, None)


class Gate:
    """Refuses requests for which there is no place, before their bodies are read: so a refusal costs no upload.

    A queue counts as full when the last count and the requests that were let in since reach a limit. Of bytes only the
    least that a body can come to is counted: the exact limit is the queue's own.
    """

    def __init__(
        self,
        depths: Recent[dict[str, Depth]],
        storage_check: StorageCheck,
        uploads: Memory,
        beside: Callable[[str], Depth],
        allowances: Allowances,
    ) -> None:
        """``depths`` are those of the table; ``beside`` says how much of a tier is alive that is not in it."""
        self._depths, self._storage_check, self._uploads, self._beside = depths, storage_check, uploads, beside
        self._allowances = allowances
        self._counted: dict[str, Depth] = {}
        self._since: Counter[str] = Counter()
        self._bytes_since: Counter[str] = Counter()

    async def enter(self, caller: Caller, tier: Tier, announced: int) -> None:
        """Let one in whose body has ``announced`` bytes, 0 if that is not known.

        Raises ``Problem`` with 503 while the storage takes no new work, with 429 when as many predictions or bytes wait
        as may, or as the caller may have, and what the queue raises.
        """
        self._storage_check.admit(announced + self._uploads.used())
        counted = await self._depths.get()
        if counted is not self._counted:  # ``Recent`` gives the same object until it asks again
            self._counted, self._since, self._bytes_since = counted, Counter(), Counter()
        depth, limits, least = self._depth(tier), tier.limits, int(announced * LEAST_SHARE)
        if depth.queued >= limits.queue:
            raise queue_full(tier.name, depth.queued, limits.queue)
        if depth.bytes >= limits.queue_bytes or depth.bytes + least > limits.queue_bytes:
            raise queue_bytes_full(tier.name, depth.bytes, limits.queue_bytes)
        await self._allowances.enter(caller, tier, least, depth)
        self._since[tier.name] += 1
        self._bytes_since[tier.name] += least

    async def enter_beside(self, caller: Caller, tier: Tier, announced: int, submission: Submission) -> None:
        """What was let in is not on its way to the table: ``beside`` will count it. Raises as ``Allowances.admit``."""
        depth = self._depth(tier)
        await self._allowances.admit(caller, tier, submission.images, submission.size, depth)
        self.is_beside(tier, announced)

    def stored(self, tier: Tier) -> int:
        """How many predictions of a tier waited in the table when they were last counted."""
        return self._counted.get(tier.name, NOTHING).queued

    def is_beside(self, tier: Tier, announced: int) -> None:
        """What was let in is not on its way to the table: ``beside`` counts it."""
        if self._since[tier.name]:  # none of those that were let in since the last count
            self._since[tier.name] -= 1
            self._bytes_since[tier.name] -= min(self._bytes_since[tier.name], int(announced * LEAST_SHARE))

    def _depth(self, tier: Tier) -> Depth:
        """How much of a tier is alive, without the oldest: what was counted, and what was let in since."""
        counted, beside = self._counted.get(tier.name, NOTHING), self._beside(tier.name)
        queued = self._since[tier.name] + counted.queued + beside.queued
        return Depth(queued, 0, None, self._bytes_since[tier.name] + counted.bytes + beside.bytes)


def queue_full(tier: str, queued: int, limit: int) -> Problem:
    """Return the problem of a request for which a tier's queue has no place."""
    detail = f"{queued} predictions wait in the tier {tier}; {limit} may"
    spread = secrets.choice(FULL_RETRY_SECONDS)  # so that not all clients come back at once
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS, "queue_full", detail, retry_after=spread, limit_queued=limit, queued=queued
    )


def queue_bytes_full(tier: str, taken: int, limit: int) -> Problem:
    """Return the problem of a request whose pictures a tier's queue has no room for."""
    detail = f"the pictures of the tier {tier} that wait or are worked on take {taken} bytes; they may take {limit}"
    spread = secrets.choice(FULL_RETRY_SECONDS)
    numbers = {"limit_queue_bytes": limit, "queue_bytes": taken}
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, "queue_bytes_full", detail, retry_after=spread, **numbers)
