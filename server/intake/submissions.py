"""From pictures and wishes to an accepted prediction."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Protocol

from server.access.allowances import Allowances
from server.access.callers import Caller
from server.blobs import Piece, pack_header
from server.intake.admission import queue_bytes_full, queue_full
from server.intake.gathering import Request
from server.intake.pictures import Pictures
from server.intake.wishes import Wishes
from server.problems import Problem
from server.queue import (
    SOFTMAX,
    CallerQueueBytesFull,
    CallerQueueFull,
    Depth,
    OutcomeUnknown,
    Prediction,
    Queue,
    QueueBytesFull,
    QueueFull,
    Submission,
    Submitted,
    asked,
    chained,
)
from server.settings.records import Tier

# A larger one is hashed off the event loop. It would take more than some milliseconds there.
HASHED_AT_ONCE_BYTES = 1024 * 1024


class Turns(Protocol):
    """What this server knows of the turns of callers."""

    def floor(self, submission: Submission) -> float:
        """Where a prediction may start at the earliest."""

    def submitted(self, submission: Submission, floor: float, finish: float) -> None:
        """The table took it with this floor; it ends at ``finish``."""


class Submissions:
    """Accepts predictions. It stores the pictures first and then the row, so that no row lacks its pictures."""

    def __init__(
        self,
        queue: Queue,
        pictures: Pictures,
        disk: Executor,
        beside: Callable[[str], Depth],
        turns: Turns,
        allowances: Allowances,
    ) -> None:
        """``beside`` says how much of a tier is alive that is not in the table; it is called from any thread."""
        self._queue, self._pictures, self._disk, self._beside, self._turns = queue, pictures, disk, beside, turns
        self._allowances = allowances
        self._hashing = asyncio.Lock()  # one large request at a time, as many would take all processors

    async def submit(
        self,
        prediction_id: str,
        caller: Caller,
        tier: Tier,
        request: Request,
        wishes: Wishes,
        refusal: Problem | None = None,
        *,
        canary: bool,
    ) -> Prediction:
        """The prediction, once it is durable; an older one where its idempotency key says so.

        ``canary`` is its lane. ``refusal`` is raised unless there is an older one. Raises ``Problem`` with 429 too,
        ``BlobError`` and what the queue raises: nothing is kept then, unless it is ``OutcomeUnknown``.
        """
        key = wishes.idempotency_key
        fingerprint = None if key is None else await self._fingerprint(request)
        if key is not None and fingerprint is not None:
            # Before the pictures are stored: a repeated request shall cost the disk nothing.
            known = await asked(self._queue.find_key(caller.owner, key, fingerprint))
            if known is not None:
                return known
        if refusal is not None:
            raise refusal
        submission = described(prediction_id, caller, tier, request, wishes, fingerprint, canary=canary)
        await self._allowances.take(caller, tier, submission.images)
        kept = False
        try:
            submitted = await self._keep(submission, request.pictures, caller, tier)
            kept = submitted.new
        except OutcomeUnknown:
            kept = True  # for all that is known
            raise
        except QueueFull as error:
            raise queue_full(tier.name, error.depth, error.limit) from error
        except QueueBytesFull as error:
            raise queue_bytes_full(tier.name, error.taken, error.limit) from error
        except (CallerQueueFull, CallerQueueBytesFull) as error:
            raise self._allowances.refusal(error, caller, tier, submission.size) from error
        finally:
            if not kept:
                self._allowances.give_back(caller, tier, submission.images)
        return submitted.prediction

    async def _keep(
        self, submission: Submission, pictures: Sequence[Sequence[Piece]], caller: Caller, tier: Tier
    ) -> Submitted:
        floor = self._turns.floor(submission)

        def keep() -> Future[Submitted]:
            self._pictures.keep(submission.id, pictures)
            beside, limits = self._beside(submission.tier), tier.limits
            left = limits.queue - beside.queued, limits.queue_bytes - beside.bytes
            return self._queue.submit(submission, *left, floor, *self._allowances.room(caller, tier))

        needed = False
        try:
            submitted = await asked(chained(self._disk, keep))
            needed = submitted.new
        except OutcomeUnknown:
            needed = True  # there may be a row; if there is none, the blob is swept like any orphan
            raise
        finally:
            if not needed:
                await self._pictures.forget([submission.id])
        if submitted.new:
            self._turns.submitted(submission, floor, submitted.finish)
            self._allowances.kept(submission.tier, submission.caller, submission.size)
        return submitted

    async def _fingerprint(self, request: Request) -> str:
        if sum(len(chunk) for chunks in request.pictures for chunk in chunks) <= HASHED_AT_ONCE_BYTES:
            return _fingerprint(request)
        async with self._hashing:
            return await asyncio.to_thread(_fingerprint, request)


def described(
    prediction_id: str,
    caller: Caller,
    tier: Tier,
    request: Request,
    wishes: Wishes,
    fingerprint: str | None = None,
    *,
    canary: bool,
) -> Submission:
    """What the queue is told of a request."""
    sizes = [sum(map(len, chunks)) for chunks in request.pictures]
    return Submission(
        id=prediction_id,
        tier=tier.name,
        model=tier.model.name,
        images=len(request.pictures),
        size=len(pack_header(sizes)) + sum(sizes),
        top_k=request.top_k,
        priority=0,
        deadline=wishes.deadline,
        idempotency_key=wishes.idempotency_key,
        fingerprint=fingerprint,
        owner=caller.owner,
        caller=caller.name,
        weight=caller.weight,
        canary=canary,
        function=request.function,
        trace=wishes.trace,
        request_id=wishes.request_id,
        names=request.names,
    )


def _fingerprint(request: Request) -> str:
    asked = f"{request.top_k};{[sum(map(len, chunks)) for chunks in request.pictures]}"
    if request.function != SOFTMAX:  # without it, the rows of a version that had no other function are still found
        asked += f";{request.function}"
    digest = hashlib.sha256(asked.encode())
    for chunks in request.pictures:
        for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()
