"""From pictures and wishes to an accepted prediction."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from http import HTTPStatus

from server.intake.admission import queue_full
from server.intake.formats import Request
from server.intake.pictures import Pictures
from server.intake.wishes import Wishes
from server.problems import Problem
from server.queue import KeyReused, OutcomeUnknown, Prediction, Queue, QueueFull, Submission, asked, chained
from server.settings.records import Tier


class Submissions:
    """Accepts predictions. It stores the pictures first and then the row, so that no row lacks its pictures."""

    def __init__(self, queue: Queue, pictures: Pictures, disk: Executor) -> None:
        self._queue, self._pictures, self._disk = queue, pictures, disk

    async def submit(self, prediction_id: str, owner: str, tier: Tier, request: Request, wishes: Wishes) -> Prediction:
        """The prediction, once it is durable; an older one where its idempotency key says so.

        Raises ``Problem`` with 422 or 429, ``BlobError`` and what the queue raises: nothing is kept then, unless it is
        ``OutcomeUnknown``.
        """
        key = wishes.idempotency_key
        submission = Submission(
            id=prediction_id,
            tier=tier.name,
            model=tier.model.name,
            images=len(request.pictures),
            size=0,  # until the blob is stored
            top_k=request.top_k,
            priority=0,
            deadline=wishes.deadline,
            idempotency_key=key,
            fingerprint=None if key is None else await self._fingerprint(request),
            owner=owner,
        )
        try:
            return await self._keep(submission, request.pictures, tier.limits.queue)
        except KeyReused as error:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency_key_reused", str(error)) from error
        except QueueFull as error:
            raise queue_full(tier.name, error.depth, error.limit) from error

    async def _keep(self, submission: Submission, pictures: Sequence[Sequence[bytes]], limit: int) -> Prediction:
        def keep() -> Future[tuple[Prediction, bool]]:
            size = self._pictures.keep(submission.id, pictures)
            return self._queue.submit(replace(submission, size=size), limit)

        needed = False
        try:
            prediction, needed = await asked(chained(self._disk, keep))
        except OutcomeUnknown:
            needed = True  # there may be a row; if there is none, the blob is swept like any orphan
            raise
        finally:
            if not needed:
                await self._pictures.forget([submission.id])
        return prediction

    # Off the event loop, which a hash over megabytes would hold up.
    async def _fingerprint(self, request: Request) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._disk, _fingerprint, request)


def _fingerprint(request: Request) -> str:
    digest = hashlib.sha256(f"{request.top_k};{[sum(map(len, chunks)) for chunks in request.pictures]}".encode())
    for chunks in request.pictures:
        for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()
