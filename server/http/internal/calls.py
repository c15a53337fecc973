"""The base of what workers may ask."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

from server.access.workers import Worker
from server.http.base import BaseHandler
from server.http.callers import Workers
from server.http.schemas import Schema
from server.intake.memory import Held

LEASES_BYTES = 16 * 1024
# A result has 100 labels of 200 characters at most, and a worker hands in those of about eight predictions together.
PICTURE_BYTES, COMPLETE_LEAST, COMPLETE_MOST = 256 * 1024, 1024 * 1024, 8 * 1024 * 1024
BIG_BYTES = 256 * 1024  # takes the event loop some milliseconds to parse


class WorkerHandler(BaseHandler):
    """A worker asks with JSON that matches ``schema``; ``caller`` is what its token proves."""

    callers = Workers()
    caller: Worker
    schema: ClassVar[Schema]
    asked_for: Mapping[str, Any]
    _held: Held | None = None

    def most_bytes(self) -> int:
        """How long the JSON may be."""
        return LEASES_BYTES

    async def admit(self) -> None:
        """Count the memory that the JSON takes. Raises ``Problem`` when its tier is no more."""
        tiers = self.services.settings.tiers.values()
        largest = {tier.name: complete_bytes(tier.limits.images) for tier in tiers}
        largest.setdefault(self.caller.tier, COMPLETE_LEAST)  # its last results, if the tier was removed
        self._text = bytearray()
        self._held = self.services.work.hold(self.caller.tier, self.caller.job, largest)

    def take(self, chunk: bytes) -> None:
        """Keep a part of the body. Raises ``Problem``."""
        if self._held is not None:
            self._held.take(len(chunk))
            self._text += chunk

    async def post(self) -> None:
        """Read what is asked for, then do it."""
        held, self._held = self._held, None  # a worker that hangs up now does not end the reading
        try:
            self.asked_for = await self._read()
        finally:
            if held is not None:
                held.release()
        await self.work()

    async def _read(self) -> Mapping[str, Any]:
        text, self._text = self._text, bytearray()
        if len(text) <= BIG_BYTES:
            return self.schema.read(text)
        async with self.services.big_json:
            return await asyncio.get_running_loop().run_in_executor(None, self.schema.read, text)

    async def work(self) -> None:
        """Do what is asked for."""
        raise NotImplementedError

    def release(self) -> None:
        """Forget the body, and give its memory back; further calls change nothing."""
        super().release()
        if self._held is not None:
            self._held.release()


def complete_bytes(images: int) -> int:
    """How long the results of a tier with so many pictures in a request may be."""
    return min(COMPLETE_MOST, max(COMPLETE_LEAST, images * PICTURE_BYTES))
