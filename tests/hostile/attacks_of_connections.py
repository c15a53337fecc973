"""Connections that say nothing, little, slowly, or nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tests.hostile.attack import APART, Attack
from tests.hostile.attacks_of_bodies import BODY, FORM, UNKNOWN_ID, form, upload_head
from tests.hostile.attacks_of_pictures import many_scans
from tests.hostile.wire import Tally, Target, Wire, chunk, head

SILENT, SILENT_INTERNAL = 1132, 300
SPREAD_SECONDS = 1.5  # a thousand requests within a moment would just be more than the processors can answer
NOTHING = f"/v1/predictions/{UNKNOWN_ID}"
CHUNKED = {"Transfer-Encoding": "chunked"}


async def waiting_path(target: Target, tally: Tally) -> str:
    """The path of a prediction that keeps the only worker of the tier busy for some seconds; of nothing if refused."""
    whole = b"".join(form(8, many_scans(40)))
    with suppress(OSError, TimeoutError):
        async with Wire(target.port, APART, tally) as wire:
            await wire.send(upload_head(target.tier, FORM, len(whole)) + whole)
            return await wire.location() or NOTHING
    return NOTHING


class Silence(Attack):
    """More connections that say nothing than the server may have open files, on both ports."""

    name = "silence"

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.crowd(SILENT, self._once, pause=1.0, spread=SPREAD_SECONDS))
            group.create_task(self.crowd(SILENT_INTERNAL, self._once, port=self.target.internal_port, pause=1.0))

    async def _once(self, wire: Wire, index: int) -> None:
        await wire.silence()


class HeadsOnly(Attack):
    """Uploads that consist of a head: what they announce never comes."""

    name = "heads-only"
    # Large ones first: together they leave no byte of a budget that is taken in advance.
    lengths = (BODY, BODY, BODY, BODY // 2, BODY // 8, 2**20, 2**17, 2**14, 2**12, 2**11)

    async def run(self) -> None:
        await self.crowd(120, self._once, pause=0.2)

    async def _once(self, wire: Wire, index: int) -> None:
        given: dict[str, object] = {"Content-Type": FORM}
        given |= {"Content-Length": self.lengths[index // 2 % len(self.lengths)]} if index % 2 else CHUNKED
        await wire.send(head("POST", f"/img-classification/{self.target.tier}", given))
        await wire.silence()


class Crowds(Attack):
    """More requests under way than the server may have open files: half of them wait for an end, half for a body."""

    name = "crowds"

    async def run(self) -> None:
        self._path = await waiting_path(self.target, self.tally)
        await self.crowd(SILENT, self._once, pause=1.0, spread=SPREAD_SECONDS)

    async def _once(self, wire: Wire, index: int) -> None:
        if index % 2:
            await wire.send(head("GET", f"{self._path}?wait=60", {}))
            await wire.silence()
        else:
            await wire.send(head("POST", f"/img-classification/{self.target.tier}", {"Content-Type": FORM, **CHUNKED}))
            await wire.silence()


class SlowUploads(Attack):
    """Uploads that bring a few bytes from time to time, in chunks or with a length."""

    name = "slow"

    async def run(self) -> None:
        await self.crowd(40, self._once, pause=0.2)

    async def _once(self, wire: Wire, index: int) -> None:
        in_chunks = index % 2
        given: dict[str, object] = {"Content-Type": FORM}
        given |= CHUNKED if in_chunks else {"Content-Length": BODY}
        await wire.send(head("POST", f"/img-classification/{self.target.tier}", given))
        while True:
            await wire.send(chunk(b"--x\r\n") if in_chunks else b"--x\r\n")
            await asyncio.sleep(0.1)


class TinyChunks(Attack):
    """Uploads in chunks of one byte, as fast as the server takes them."""

    name = "tiny-chunks"

    async def run(self) -> None:
        await self.crowd(4, self._once)

    async def _once(self, wire: Wire, index: int) -> None:
        given = {"Content-Type": "image/jpeg", **CHUNKED}
        await wire.send(head("POST", f"/img-classification/{self.target.tier}", given))
        await wire.send(chunk(b"\xff") + chunk(b"\xd8") + chunk(b"\xff"))
        for _ in range(200):
            await wire.send(chunk(b"x") * 1000)
        await wire.answer()


class BadLengths(Attack):
    """Lengths that are none: too many digits, signs, contradictions, unknown encodings."""

    name = "lengths"
    bad = (
        "Content-Length: " + "9" * 5000,
        "Content-Length: -1",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked, identity",
        "Content-Length: 0x10",
        "Content-Length: \u0663",
        "Transfer-Encoding: chunked\r\n\r\n" + "f" * 5000,
    )

    async def run(self) -> None:
        await self.crowd(2 * len(self.bad), self._once)

    async def _once(self, wire: Wire, index: int) -> None:
        lines = self.bad[index % len(self.bad)]
        path = "/nope" if index < len(self.bad) else f"/img-classification/{self.target.tier}"
        await wire.send(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n\r\n".encode())
        await wire.answer()


class BadHeads(Attack):
    """Heads that are too long, have too many headers, come slowly, or are no HTTP."""

    name = "heads"

    async def run(self) -> None:
        kinds = (self._large, self._many, self._slow, self._nonsense)

        async def once(wire: Wire, index: int) -> None:
            kind: Callable[[Wire], Awaitable[None]] = kinds[index % len(kinds)]
            await kind(wire)

        await self.crowd(5 * len(kinds), once)

    async def _large(self, wire: Wire) -> None:
        await wire.send(head("GET", "/healthz", {"X-Long": "x" * 70_000}))
        await wire.answer()

    async def _many(self, wire: Wire) -> None:
        await wire.send(head("GET", "/healthz", {f"X-{number}": number for number in range(5000)}))
        await wire.answer()

    async def _slow(self, wire: Wire) -> None:
        await wire.send(b"GET /healthz HTTP/1.1\r\n")
        while True:
            await wire.send(b"X-Slow: x\r\n")
            await asyncio.sleep(0.1)

    async def _nonsense(self, wire: Wire) -> None:
        await wire.send(self.chance.randbytes(200) + b"\r\n\r\n")
        await wire.answer()
