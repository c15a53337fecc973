"""The workers' side: lease, complete, extend, release. On the internal port only; the tier comes from the token."""

from __future__ import annotations

import asyncio
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

import fastjsonschema
from tornado.iostream import StreamClosedError

from server.access.workers import AccessDenied, AccessUnknown, Worker
from server.blobs import BlobError, BlobMissing
from server.http.base import BaseHandler
from server.http.wakeups import Waiter
from server.points import Point, reached
from server.problems import Problem, json_object
from server.queue.asking import asked
from server.queue.facts.errors import UnknownJob
from server.queue.facts.records import NEVER_SEEN, Completion, Leased
from server.settings.values import SCHEMAS

LEASE_BYTES = 32 * 1024 * 1024
LOOK_AGAIN_SECONDS = 2.0


@cache
def _validator(definition: str) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Compiled, because it runs for every result: jsonschema takes ten times as long."""
    schema = json.loads((SCHEMAS / "worker-protocol.schema.json").read_text())
    validator: Callable[[Mapping[str, Any]], Mapping[str, Any]] = fastjsonschema.compile(
        {"$ref": f"#/definitions/{definition}", "definitions": schema["definitions"]}
    )
    return validator


class _WorkerHandler(BaseHandler):
    definition: str
    worker: Worker
    asked_for: Mapping[str, Any]

    async def prepare(self) -> None:
        """Who asks, and for what."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        self.worker = await self._who(token if scheme == "Bearer" else "")
        self.asked_for = json_object(self.request.body)
        try:
            _validator(self.definition)(self.asked_for)
        except fastjsonschema.JsonSchemaValueException as error:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_worker_request", error.message[:300]) from error

    async def _who(self, token: str) -> Worker:
        services = self.services
        if worker := services.credentials.recall(token):
            return worker
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(services.cluster, services.credentials.check, token)
        except AccessDenied as error:
            raise Problem(HTTPStatus.UNAUTHORIZED, "bad_worker_token", str(error)) from error
        except AccessUnknown as error:
            unavailable = HTTPStatus.SERVICE_UNAVAILABLE
            raise Problem(unavailable, "worker_token_unchecked", str(error), retry_after=1) from error

    def leases(self) -> list[tuple[str, str]]:
        """The (id, token) pairs of the body."""
        return [(prediction_id, token) for prediction_id, token in self.asked_for["leases"]]


class LeaseHandler(_WorkerHandler):
    """``POST /work/lease``: hold predictions, and get their pictures in the same answer."""

    definition = "lease"
    gone = False
    waiter: Waiter | None = None

    def on_connection_close(self) -> None:
        """A worker that hung up must not be given work."""
        super().on_connection_close()
        self.gone = True
        if self.waiter is not None:
            self.waiter.wake()

    async def post(self) -> None:
        """A frame of predictions; 204 when none came in time; 410 when the Job is no longer known."""
        try:
            leased = await self._lease()
        except UnknownJob as error:
            raise Problem(HTTPStatus.GONE, "unknown_job", str(error)) from error
        try:
            frame = await self._frame(leased)
            reached(Point.LEASE_FRAMED)
            if self.gone:
                raise StreamClosedError
            if frame is None and self.services.wakeups.draining:
                unavailable = HTTPStatus.SERVICE_UNAVAILABLE
                raise Problem(unavailable, "stopping", "this server is about to stop", retry_after=1)
            if frame is None:
                self.set_status(HTTPStatus.NO_CONTENT)
                await self.finish()
            else:
                self.set_header("Content-Type", "application/octet-stream")
                await self.finish(frame)
        except (StreamClosedError, BlobError) as error:
            held = [(one.id, one.token) for one in leased]
            await asked(self.services.queue.release(self.worker.job, held))
            if isinstance(error, BlobError):
                raise

    async def _lease(self) -> list[Leased]:
        services, worker, loop = self.services, self.worker, asyncio.get_running_loop()
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
        depth = (await self.services.depths.get()).get(self.worker.tier)
        view = (await self.services.views.get()).get(self.worker.tier, NEVER_SEEN)
        fair = math.ceil((depth.queued if depth else 0) / max(1, view.running))
        return min(int(self.asked_for["most"]), max(1, fair))

    async def _frame(self, leased: list[Leased]) -> bytes | None:
        services, renew = self.services, self.services.settings.lease.heartbeat
        keys = [one.id for one in leased]
        fresh = services.fresh.take(keys)
        if fresh is None:
            frame, missing = await self.off_loop(lambda: _frame(leased, services.blobs.get_each(keys), renew))
        else:
            frame, missing = _frame(leased, fresh, renew)
        if missing:
            await asked(self.services.queue.complete(self.worker.job, missing))
        return frame


class CompleteHandler(_WorkerHandler):
    """``POST /work/complete``. A picture is no longer needed once it has its labels, so its blob goes."""

    definition = "complete"

    async def post(self) -> None:
        """Each result is kept unless its prediction has ended already; the answer says which."""
        completions = [_completion(item) for item in self.asked_for["completions"]]
        outcomes = await asked(self.services.queue.complete(self.worker.job, completions))
        reached(Point.RESULT_KEPT)
        self.answer({"outcomes": outcomes})
        ended = [one.id for one, outcome in zip(completions, outcomes, strict=True) if outcome == "accepted"]
        await self.forget(ended)


class ExtendHandler(_WorkerHandler):
    """``POST /work/extend``."""

    definition = "leases"

    async def post(self) -> None:
        """Hold on; the answer names the predictions that are the worker's no more."""
        queue, seconds = self.services.queue, self.services.settings.lease.seconds
        self.answer({"lost": await asked(queue.extend(self.worker.job, self.leases(), seconds))})


class ReleaseHandler(_WorkerHandler):
    """``POST /work/release``."""

    definition = "leases"

    async def post(self) -> None:
        """Hand back what was not begun."""
        self.answer({"released": await asked(self.services.queue.release(self.worker.job, self.leases()))})


def _frame(
    leased: Sequence[Leased], blobs: Sequence[bytes | BlobMissing], renew: float
) -> tuple[bytes | None, list[Completion]]:
    """The lease answer, None when it would be empty; and the failures of those whose pictures are gone."""
    kept: list[tuple[Leased, bytes]] = []
    missing: list[Completion] = []
    for one, blob in zip(leased, blobs, strict=True):
        if isinstance(blob, BlobMissing):
            failure = {"code": "blob_missing", "detail": str(blob)}
            missing.append(Completion(one.id, one.token, None, failure, None))
        else:
            kept.append((one, blob))
    if not kept:
        return None, missing
    entries = [
        {"id": one.id, "token": one.token, "top_k": one.top_k, "renew": renew, "size": len(blob)} for one, blob in kept
    ]
    head = json.dumps({"predictions": entries}).encode()
    return b"".join([struct.pack(">I", len(head)), head, *(blob for _, blob in kept)]), missing


def _completion(item: Mapping[str, Any]) -> Completion:
    errors = [result["error"] for result in item["results"] if "error" in result]
    error = errors[0] if len(errors) == len(item["results"]) else None
    return Completion(item["id"], item["token"], item["results"], error, item["predict_ms"])
