"""The workers' side: lease, complete, extend, release. On the internal port only; the tier comes from the token."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

from tornado.iostream import StreamClosedError

from server.blobs import BlobError, BlobMissing
from server.http.internal.calls import WorkerHandler, complete_bytes
from server.http.internal.frames import frame, head, missing_blob
from server.http.schemas import Schema
from server.http.wakeups import Waiter
from server.intake.memory import Held
from server.points import Point, reached
from server.problems import Problem
from server.queue import ATTEMPTS, NEVER_SEEN, Completion, Leased, UnknownJob, asked

log = logging.getLogger(__name__)

log = logging.getLogger(__name__)

# Of the pictures in one answer, which is put together in memory: it is there, in parts, as a whole, and on its way.
LEASE_BYTES, COPIES = 8 * 1024 * 1024, 3
# A wake-up can reach a worker that may not take the work, and a notice of another server can be lost.
LOOK_AGAIN_SECONDS = 2.0
LEASE, COMPLETE, LEASES = (
    Schema("worker-protocol.schema.json", definition, "bad_worker_request")
    for definition in ("lease", "complete", "leases")
)


class LeaseHandler(WorkerHandler):
    """``POST /work/lease``: hold predictions, and get their pictures in the same answer."""

    schema = LEASE
    gone = False
    waiter: Waiter | None = None

    def on_connection_close(self) -> None:
        """A worker that hung up must not be given work."""
        super().on_connection_close()
        self.gone = True
        if self.waiter is not None:
            self.waiter.wake()

    async def work(self) -> None:
        """Answer with a frame of predictions, with 204 if none came in time, or with 410 if the Job is not known."""
        try:
            leased = await self._lease()
        except UnknownJob as error:
            raise Problem(HTTPStatus.GONE, "unknown_job", str(error)) from error
        held = self._hold()
        try:
            if await self._fits(leased, held):
                await self._hand_over(await self._frame(leased))
            else:
                await self._stream(leased[0])
        except (StreamClosedError, BlobError) as error:
            # The worker never learns of these leases: handed back, they cost no attempt and no wait for their end.
            await self._hand_back(leased)
            if isinstance(error, BlobError):
                raise
        finally:
            held.release()

    async def _lease(self) -> list[Leased]:
        services, worker, loop = self.services, self.caller, asyncio.get_running_loop()
        lease, asked_again = services.settings.lease, False
        # Not longer than a heartbeat: asking for work is how an idle worker shows that it lives.
        deadline = loop.time() + min(self.asked_for["wait"], lease.heartbeat)
        with services.wakeups.for_work(worker.tier) as self.waiter:
            while True:
                wish = (worker.tier, worker.job, await self._share(), LEASE_BYTES, lease.seconds)
                leased = await asked(services.queue.lease(*wish, again=asked_again))
                asked_again = True
                left = deadline - loop.time()
                if leased or left <= 0 or self.gone or services.wakeups.draining:
                    return leased
                await self.waiter.wait(min(left, LOOK_AGAIN_SECONDS))
                if self.gone:
                    return []

    async def _share(self) -> int:
        depth = (await self.services.depths.get()).get(self.caller.tier)
        view = (await self.services.views.get()).get(self.caller.tier, NEVER_SEEN)
        # If a burst went to whoever asks first, the other workers would be idle.
        fair = math.ceil((depth.queued if depth else 0) / max(1, view.running))
        return min(int(self.asked_for["most"]), max(1, fair))

    def _hold(self) -> Held:
        largest = {self.caller.tier: 0, **dict.fromkeys(self.services.settings.tiers, COPIES * LEASE_BYTES)}
        return self.services.frames.hold(self.caller.tier, self.caller.job, largest)

    async def _fits(self, leased: list[Leased], held: Held) -> bool:
        """Whether there is memory for all of it; if not, all but the first is handed back, which can be streamed."""
        size = sum(one.size for one in leased)
        if size <= LEASE_BYTES:
            try:
                held.take(COPIES * size)
                return True
            except Problem:
                log.debug("too many pictures are on their way to workers: one prediction goes alone")
        if rest := leased[1:]:
            await self._hand_back(rest)
        return False

    async def _hand_back(self, leased: list[Leased]) -> None:
        held = [(one.id, one.token) for one in leased]
        await asked(self.services.queue.release(self.caller.job, held))

    async def _stream(self, one: Leased) -> None:
        """Send one prediction, piece by piece. Raises ``StreamClosedError``, and ``BlobError`` at the first piece."""
        described = head([(one, one.size)], self.services.settings.lease.heartbeat)
        async with aclosing(self.services.pictures.pieces(one.id)) as pieces:
            try:
                first = await anext(pieces, b"")
            except BlobMissing as error:
                await asked(self.services.queue.complete(self.caller.job, [missing_blob(one, error)]))
                return await self._hand_over(None)
            self._framed()
            self.set_header("Content-Type", "application/octet-stream")
            self.set_header("Content-Length", len(described) + one.size)
            self.write(described + first)
            try:
                async for piece in pieces:
                    await self.flush()
                    self.write(piece)
            except BlobError as error:
                log.warning("an answer to a worker breaks off: %s", error)
                self.break_off()
                raise StreamClosedError from error
        return await self.finish()

    async def _frame(self, leased: list[Leased]) -> bytes | None:
        services, renew = self.services, self.services.settings.lease.heartbeat
        keys = [one.id for one in leased]
        data, missing = await services.pictures.read(keys, lambda blobs: frame(leased, blobs, renew))
        if missing:  # no worker could ever do them
            await asked(services.queue.complete(self.caller.job, missing))
        return data

    async def _hand_over(self, data: bytes | None) -> None:
        """Send a frame, or that there is none. Raises ``StreamClosedError`` when the worker did not get it."""
        self._framed()
        if data is not None:
            self.set_header("Content-Type", "application/octet-stream")
        elif self.services.wakeups.draining:
            unavailable = HTTPStatus.SERVICE_UNAVAILABLE
            raise Problem(unavailable, "stopping", "this server is about to stop", retry_after=1)
        else:
            self.set_status(HTTPStatus.NO_CONTENT)
        await self.finish(data)

    def _framed(self) -> None:
        reached(Point.LEASE_FRAMED)
        if self.gone:
            raise StreamClosedError


class CompleteHandler(WorkerHandler):
    """``POST /work/complete``."""

    schema = COMPLETE

    def most_bytes(self) -> int:
        """How long the results may be, by the worker's tier."""
        tier = self.services.settings.tiers.get(self.caller.tier)
        return complete_bytes(tier.limits.images if tier else 1)

    async def work(self) -> None:
        """Store each result unless its prediction has already ended; the answer says which results were stored."""
        completions = [_completion(item) for item in self.asked_for["completions"]]
        tier, job = self.services.settings.tiers.get(self.caller.tier), self.caller.job
        attempts = tier.limits.attempts if tier else ATTEMPTS
        outcomes = await asked(self.services.queue.complete(job, completions, attempts))
        reached(Point.RESULT_KEPT)
        told = list(zip(completions, outcomes, strict=True))
        if invalid := [one.id for one, outcome in told if outcome == "invalid"]:
            log.warning("Job %s handed in what cannot be the results of %s", job, ", ".join(invalid))
            self.services.metrics.invalid(self.caller.tier, len(invalid))
        self.answer({"outcomes": outcomes})


class LeasesHandler(WorkerHandler):
    """A request about leases that the worker holds."""

    schema = LEASES

    @property
    def leases(self) -> list[tuple[str, str]]:
        """Their (id, token) pairs."""
        return [(prediction_id, token) for prediction_id, token in self.asked_for["leases"]]


class ExtendHandler(LeasesHandler):
    """``POST /work/extend``."""

    async def work(self) -> None:
        """Prolong leases; the answer names the predictions that the worker has lost."""
        queue, seconds = self.services.queue, self.services.settings.lease.seconds
        self.answer({"lost": await asked(queue.extend(self.caller.job, self.leases, seconds))})


class ReleaseHandler(LeasesHandler):
    """``POST /work/release``."""

    async def work(self) -> None:
        """Take back predictions that the worker has not begun."""
        self.answer({"released": await asked(self.services.queue.release(self.caller.job, self.leases))})


def _completion(item: Mapping[str, Any]) -> Completion:
    errors = [result["error"] for result in item["results"] if "error" in result]
    # A prediction fails only if none of its pictures has labels.
    error = errors[0] if len(errors) == len(item["results"]) else None
    return Completion(item["id"], item["token"], item["results"], error, item["predict_ms"], item["model"])
