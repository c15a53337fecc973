"""Brings predictions to one worker: those in memory at once, others when their pictures are read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from tornado.iostream import StreamClosedError

from server.access.workers import Worker
from server.blobs import BlobError, BlobMissing, Piece
from server.http.internal.frames import Outcomes, head, missing_blob
from server.http.services import Services
from server.intake.memory import Held
from server.lobby import Handed
from server.points import Point, reached
from server.problems import Problem
from server.queue import ATTEMPTS, Completion, Leased, QueueError

log = logging.getLogger(__name__)

# Of the pictures in one frame, which is put together in memory: it is there, in parts, as a whole, and on its way.
FRAME_BYTES, COPIES = 8 * 1024 * 1024, 3
FAILED_SECONDS = 1.0  # without work for a worker whose pictures could not be read


class Line(Protocol):
    """The channel that predictions are brought over."""

    worker: Worker

    def send_frame(self, parts: Sequence[Piece]) -> asyncio.Future[None] | None:
        """Send a binary message; None if all of it has gone to the kernel. Raises ``StreamClosedError``."""

    def take_outcomes(self) -> Outcomes:
        """What the worker is to be told of its results with the next message."""

    def not_sent(self, leased: Sequence[Leased]) -> None:
        """The worker has got none of these, and holds them no longer: it may be given as many others."""

    def break_off(self) -> None:
        """Close the connection, because the rest of a frame cannot be sent."""


class Delivery:
    """Predictions on their way to one worker. What cannot be sent is handed back, and costs no attempt."""

    def __init__(self, services: Services, line: Line) -> None:
        self._services, self._line = services, line

    def deliver(self, handed: Sequence[Handed]) -> Awaitable[None] | None:
        """As ``Peer.deliver``."""
        if any(one.blob is None for one in handed) or _size(handed) > FRAME_BYTES:
            return _begun(self._bring(handed))
        reached(Point.LEASE_FRAMED)
        try:
            written = self._send_whole(handed)
        except StreamClosedError:
            return _begun(self._hand_back([one.leased for one in handed]))
        return None if written is None else _begun(self._finish(written, handed))

    def _send_whole(self, handed: Sequence[Handed]) -> asyncio.Future[None] | None:
        blobs = [one.blob or [] for one in handed]
        described = [(one.leased, sum(map(len, blob))) for one, blob in zip(handed, blobs, strict=True)]
        parts: list[Piece] = [head(described, self._line.take_outcomes())]
        for blob in blobs:
            parts += blob
        return self._line.send_frame(parts)

    async def _send_given(self, handed: Sequence[Handed]) -> None:
        reached(Point.LEASE_FRAMED)
        if (written := self._send_whole(handed)) is not None:
            await written

    async def _finish(self, written: asyncio.Future[None], handed: Sequence[Handed]) -> None:
        try:
            await written
        except StreamClosedError:
            await self._hand_back([one.leased for one in handed])

    async def _bring(self, handed: Sequence[Handed]) -> None:
        """Send what is in memory, then what must be read."""
        given = [one for one in handed if one.blob is not None]
        # Together they may be too large for a frame, but each of them fits into one.
        for some in [given] if _size(given) <= FRAME_BYTES else [[one] for one in given]:
            if some:
                await self._attempt([one.leased for one in some], self._send_given(some))
        if stored := [one.leased for one in handed if one.blob is None]:
            await self._bring_stored(stored)

    async def _bring_stored(self, leased: list[Leased]) -> None:
        held = self._hold()
        try:
            if self._fits(leased, held):
                await self._attempt(leased, self._send_read(leased))
            else:
                if rest := leased[1:]:
                    await self._hand_back(rest)
                await self._attempt(leased[:1], self._stream(leased[0]))
        finally:
            held.release()

    async def _attempt(self, leased: Sequence[Leased], sending: Coroutine[Any, Any, None]) -> None:
        try:
            await sending
        except StreamClosedError:
            await self._hand_back(leased)
        except BlobError as error:
            log.warning("pictures could not be sent to a worker: %s", error)
            await self._hand_back(leased, FAILED_SECONDS)

    def _hold(self) -> Held:
        worker = self._line.worker
        largest = {worker.tier: 0, **dict.fromkeys(self._services.settings.tiers, COPIES * FRAME_BYTES)}
        return self._services.frames.hold(worker.tier, worker.job, largest)

    @staticmethod
    def _fits(leased: Sequence[Leased], held: Held) -> bool:
        """Whether there is memory for all of it; if not, the first can be sent piece by piece."""
        size = sum(one.size for one in leased)
        if size > FRAME_BYTES:
            return False
        try:
            held.take(COPIES * size)
        except Problem:
            log.debug("too many pictures are on their way to workers: one prediction goes alone")
            return False
        return True

    async def _send_read(self, leased: Sequence[Leased]) -> None:
        keys = [one.id for one in leased]
        blobs = await self._services.pictures.read(keys, list)
        found: list[Handed] = []
        for one, blob in zip(leased, blobs, strict=True):
            if isinstance(blob, BlobMissing):
                await self._fail(one, blob)
            else:
                found.append(Handed(one, [blob]))
        if found:
            await self._send_given(found)

    async def _stream(self, one: Leased) -> None:
        """Send one prediction in pieces. Raises ``StreamClosedError``, and ``BlobError`` before the first piece."""
        async with aclosing(self._services.pictures.pieces(one.id)) as pieces:
            try:
                first = await anext(pieces, b"")
            except BlobMissing as error:
                return await self._fail(one, error)
            reached(Point.LEASE_FRAMED)
            await self._send_piece([head([(one, one.size)], self._line.take_outcomes()), first])
            try:
                async for piece in pieces:
                    await self._send_piece([piece])
            except BlobError as error:
                log.warning("a frame to a worker breaks off: %s", error)
                self._line.break_off()
                raise StreamClosedError from error

    async def _send_piece(self, parts: Sequence[Piece]) -> None:
        if (written := self._line.send_frame(parts)) is not None:
            await written

    async def _fail(self, one: Leased, error: BlobMissing) -> None:
        """End a prediction that no worker could ever do."""
        ended: list[Completion] = [missing_blob(one, error)]
        try:
            await self._services.lobby.complete(self._line.worker, ended, ATTEMPTS)
        except QueueError as failure:
            log.debug("a prediction without pictures is left until its lease ends: %s", failure)
        self._line.not_sent([one])

    async def _hand_back(self, leased: Sequence[Leased], pause: float = 0) -> None:
        """The worker never learns of these leases: handed back, they cost no attempt and no wait for their end."""
        try:
            await self._services.lobby.release(self._line.worker, [(one.id, one.token) for one in leased])
        except QueueError as error:
            log.debug("leases that were not sent are left until their end: %s", error)
        await asyncio.sleep(pause)
        self._line.not_sent(leased)


def _size(handed: Sequence[Handed]) -> int:
    return sum(len(part) for one in handed for part in one.blob or [])


def _begun(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work)
