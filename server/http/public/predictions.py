"""Predictions: ask for one, read it, cancel it."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import Awaitable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from http import HTTPStatus

from tornado.web import stream_request_body

from server.http.base import BaseHandler
from server.http.public.preference import LONGEST_WAIT, Preference
from server.http.public.representation import describe, ended_badly, path_of
from server.intake import formats as body
from server.points import Point, reached
from server.problems import Problem
from server.queue.asking import asked, chained
from server.queue.facts.errors import KeyReused, OutcomeUnknown, QueueError, QueueFull
from server.queue.facts.records import Prediction, Submission
from server.queue.facts.states import FINAL, Status, id_time, new_id
from server.settings.records import Tier

KEY_LONGEST = 255
LINGER_BYTES = 4 * 1024 * 1024
OWNER = "anonymous"
FULL_RETRY_SECONDS = (1, 2, 3, 4, 5)


class _PredictionHandler(BaseHandler):
    async def until_final(self, prediction_id: str, first: Awaitable[Prediction], seconds: float) -> Prediction:
        """What ``first`` gives, as soon as it is final, or as it is after ``seconds``."""
        wakeups, loop = self.services.wakeups, asyncio.get_running_loop()
        end = loop.time() + seconds
        with wakeups.for_end(prediction_id) as waiter:  # from before it is there: its end cannot be missed
            prediction = await first
            while prediction.id == prediction_id and prediction.status not in FINAL:
                left = 0.0 if wakeups.draining else end - loop.time()
                if left <= 0:
                    break
                await waiter.wait(left)
                prediction = waiter.ended or await self._read_again(prediction)
        if prediction.id != prediction_id:  # an idempotency key led to an older one
            prediction = await self.until_final(prediction.id, self.read(prediction.id), seconds)
        return prediction

    async def _read_again(self, last: Prediction) -> Prediction:
        """What it is now, or was when it could last be read: a caller who waits is not told that nothing was kept."""
        try:
            return await self.read(last.id)
        except QueueError:
            return last

    async def read(self, prediction_id: str) -> Prediction:
        """The prediction as it is. Raises ``Problem``: 404 when it never was, 410 when it was and is no longer kept."""
        prediction = await asked(self.services.queue.get(prediction_id))
        if prediction is not None:
            return prediction
        born = id_time(prediction_id)
        kept = min(tier.waits.results for tier in self.services.settings.tiers.values())
        if born is not None and born + kept < self.services.clock():
            detail = f"results are kept for {kept:g} s after the end; send the picture again"
            raise Problem(HTTPStatus.GONE, "result_gone", detail, kept_seconds=kept)
        raise Problem(HTTPStatus.NOT_FOUND, "no_such_prediction", f"there is no prediction {prediction_id[:80]}")


@stream_request_body
class ClassifyHandler(_PredictionHandler):
    """``POST /img-classification/{tier}``: keep pictures, then answer with their labels or with where they stand."""

    tier: Tier
    refused = False
    reserved = 0

    async def prepare(self) -> None:
        """Refuse before the body is read what can be refused then."""
        self.chunks: list[bytes] = []
        self.received = 0
        if self.request.method != "POST":
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "pictures are sent with POST")
        try:
            self.tier = self._tier()
            self.limit = body.most_bytes(body.media_type(self.request.headers), self.tier.limits)
            length = self._check_length()
            await self._check_room()
            self._reserve(length)
        except Problem as problem:
            self._refuse(problem)

    def data_received(self, chunk: bytes) -> None:
        """A part of the body. What was refused is let run out for a while, so that the client reads its answer."""
        self.received += len(chunk)
        if self.refused:
            if self.received > LINGER_BYTES and not self._finished:
                self.finish()
        elif self.received > self.limit:
            self._refuse(body.too_large(self.received, self.limit, "the body"))
        else:
            self.chunks.append(chunk)

    def on_connection_close(self) -> None:
        """The client hung up: what it has sent so far is forgotten, what was accepted is kept."""
        super().on_connection_close()
        self._release()

    def on_finish(self) -> None:
        """Called by Tornado after the answer."""
        super().on_finish()
        self._release()

    async def post(self, tier: str) -> None:
        """Keep the pictures on disk, wait as long as the client wants to, answer."""
        if self.refused:
            if not self._finished:
                self.finish()
            return
        reached(Point.BODY_READ)
        preference = Preference.of(self.request.headers.get_list("Prefer"), self.tier.waits.sync)
        asked_for = body.read(
            self.request.headers, self.chunks, self.get_query_argument("top_k", None), self.tier.limits
        )
        self.chunks = []
        if preference.applied:
            self.set_header("Preference-Applied", preference.applied)
        prediction_id = new_id(self.services.clock)
        kept = self._submit(prediction_id, asked_for)
        del asked_for  # the pictures are on disk soon: they need not wait for their labels in memory
        await self._answer(await self.until_final(prediction_id, kept, preference.seconds))

    async def _submit(self, prediction_id: str, asked_for: body.Request) -> Prediction:
        tier = self.tier
        key = self.request.headers.get("Idempotency-Key")
        if key is not None and not 0 < len(key) <= KEY_LONGEST:
            detail = f"Idempotency-Key must have 1 to {KEY_LONGEST} characters"
            raise Problem(HTTPStatus.BAD_REQUEST, "bad_idempotency_key", detail, limit_characters=KEY_LONGEST)
        submission = Submission(
            id=prediction_id,
            tier=tier.name,
            model=tier.model.name,
            images=len(asked_for.pictures),
            size=0,
            top_k=asked_for.top_k,
            priority=0,
            deadline=self._deadline(),
            idempotency_key=key,
            fingerprint=None if key is None else await self.off_loop(_fingerprint, asked_for),
            owner=OWNER,
        )
        try:
            return await self._keep(submission, asked_for.pictures)
        except KeyReused as error:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency_key_reused", str(error)) from error
        except QueueFull as error:
            raise self._full(error.depth) from error

    async def _keep(self, submission: Submission, pictures: Sequence[Sequence[bytes]]) -> Prediction:
        blobs, fresh, queue = self.services.blobs, self.services.fresh, self.services.queue
        limit = self.tier.limits.queue

        def keep() -> Future[tuple[Prediction, bool]]:
            size = blobs.put(submission.id, pictures)
            fresh.remember(submission.id, pictures)
            return queue.submit(replace(submission, size=size), limit)

        needed = False
        try:
            prediction, needed = await asked(chained(self.services.disk, keep))
        except OutcomeUnknown:
            needed = True  # there may be a row for it; if not, it is swept like any orphan
            raise
        finally:
            self._release()
            if not needed:
                await self.forget([submission.id])
        return prediction

    async def _answer(self, prediction: Prediction) -> None:
        reached(Point.ANSWER_READY)
        resource = await describe(prediction, self.services)
        if problem := ended_badly(prediction, resource):
            raise problem
        self.set_header("Location", path_of(prediction.id))
        if prediction.status is Status.SUCCEEDED:
            return self.answer(resource)
        seconds = (resource["queue"] or {}).get("eta_seconds", 1)
        self.set_header("Retry-After", str(max(1, round(seconds))))
        return self.answer(resource, HTTPStatus.ACCEPTED)

    def _refuse(self, problem: Problem) -> None:
        self.refused = True
        self.chunks = []
        length = self.request.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LINGER_BYTES:
            self.set_header("Connection", "close")
        self.write_problem(problem)
        self.flush()

    def _tier(self) -> Tier:
        name = self.path_args[0]
        tiers = self.services.settings.tiers
        if name not in tiers:
            detail = f"there is no tier {name[:80]!r}; the tiers are {', '.join(tiers)}"
            raise Problem(HTTPStatus.NOT_FOUND, "no_such_tier", detail, tiers=list(tiers))
        return tiers[name]

    def _reserve(self, length: int) -> None:
        uploads = self.services.uploads
        if not uploads.take(length):
            detail = f"uploads under way take the {uploads.most} bytes that all of them may; nothing was kept"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, retry_after=1, limit_bytes=uploads.most)
        self.reserved = length

    def _release(self) -> None:
        self.chunks = []
        self.services.uploads.give_back(self.reserved)
        self.reserved = 0

    def _check_length(self) -> int:
        """The most bytes that the body may turn out to have."""
        headers = self.request.headers
        if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
            raise Problem(HTTPStatus.LENGTH_REQUIRED, "no_length", "the request has no body and no Content-Length")
        length = headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()):
            detail = f"Content-Length is {length[:40]!r}, not a number"
            raise Problem(HTTPStatus.BAD_REQUEST, "bad_length", detail)
        if int(length) > self.limit:
            raise body.too_large(int(length), self.limit, "the body")
        return int(length) if "Content-Length" in headers else self.limit

    async def _check_room(self) -> None:
        if waiting := await self.services.gate.enter(self.tier.name, self.tier.limits.queue):
            raise self._full(waiting)

    def _full(self, depth: int) -> Problem:
        limit = self.tier.limits.queue
        detail = f"{depth} predictions wait in the tier {self.tier.name}; {limit} may"
        spread = secrets.choice(FULL_RETRY_SECONDS)  # not all of them back at once
        return Problem(
            HTTPStatus.TOO_MANY_REQUESTS, "queue_full", detail, retry_after=spread, limit_queued=limit, queued=depth
        )

    def _deadline(self) -> float:
        given = self.request.headers.get("Cancel-After")
        longest = self.tier.waits.queue
        if given is None:
            return longest
        match = re.fullmatch(r"(\d{1,7}(?:\.\d{1,3})?)(s|m|h)?", given.strip())
        seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2] or "s"] if match else 0.0
        if not 1 <= seconds <= longest:
            detail = f"Cancel-After is {given[:40]!r}; it must be from 1s to {longest:g}s, as in 90s, 5m or 1h"
            raise Problem(HTTPStatus.BAD_REQUEST, "bad_cancel_after", detail, limit_seconds=longest)
        return seconds


class PredictionHandler(_PredictionHandler):
    """``/v1/predictions/{id}``."""

    async def get(self, prediction_id: str) -> None:
        """Where it stands; with ``?wait=20``, as soon as it is final or after so many seconds."""
        given = self.get_query_argument("wait", "0")
        if not re.fullmatch(r"\d{1,4}(\.\d{1,3})?", given) or float(given) > LONGEST_WAIT:
            detail = f"wait is {given[:20]!r}; it must be a number of seconds from 0 to {LONGEST_WAIT:g}"
            raise Problem(HTTPStatus.BAD_REQUEST, "bad_wait", detail, limit_seconds=LONGEST_WAIT)
        prediction = await self.until_final(prediction_id, self.read(prediction_id), float(given))
        self.answer(await describe(prediction, self.services))

    async def delete(self, prediction_id: str) -> None:
        """Cancel it. One that has ended stays as it ended."""
        prediction = await asked(self.services.queue.cancel(prediction_id))
        self.answer(await describe(prediction or await self.read(prediction_id), self.services))


def _fingerprint(asked_for: body.Request) -> str:
    digest = hashlib.sha256(f"{asked_for.top_k};{[sum(map(len, chunks)) for chunks in asked_for.pictures]}".encode())
    for chunks in asked_for.pictures:
        for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()
