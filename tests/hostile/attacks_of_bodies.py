"""Bodies that are large, deep, many, or sent where none belongs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from tests.hostile.attack import Attack
from tests.hostile.wire import Wire, chunk, head, pieces

MEGABYTE = 1024 * 1024
BODY = 80 * MEGABYTE
PICTURE = b"\xff\xd8\xff" + bytes(9 * MEGABYTE)  # begins like a JPEG, and is none
BOUNDARY = "a-form-of-pictures"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
UNKNOWN_ID = "0" * 32


class BodiesEverywhere(Attack):
    """Large bodies on every route and with every method, in chunks and with a length."""

    name = "bodies"
    requests = (
        ("POST", "/nope"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/v1/tiers"),
        ("GET", "/config"),
        ("GET", f"/v1/predictions/{UNKNOWN_ID}"),
        ("DELETE", f"/v1/predictions/{UNKNOWN_ID}"),
        ("PUT", "/img-classification/free"),
        ("GET", "/img-classification/free"),
        ("OPTIONS", "/healthz"),
        ("POST", "/img-classification/none-such"),
    )

    async def run(self) -> None:
        await self.crowd(len(self.requests), self._once)

    async def _once(self, wire: Wire, index: int) -> None:
        method, path = self.requests[index]
        if self.chance.random() < 0.5:
            await wire.send(head(method, path, {"Transfer-Encoding": "chunked"}))
            await wire.send_all(map(chunk, pieces(BODY, b"x")))
            await wire.send(chunk(b""))
        else:
            await wire.send(head(method, path, {"Content-Length": BODY}))
            await wire.send_all(pieces(BODY, b"x"))
        await wire.answer()


class JsonBombs(Attack):
    """JSON that is small for what it becomes in memory, or takes long to read."""

    name = "json"
    bombs = (
        (b'{"inputs":[[]', b",[]"),
        (b'{"inputs":', b"["),
        (b'{"inputs":', b'{"a":'),
        (b'{"inputs":["",""', b',""'),
        (b'{"inputs":', b"9"),
        (b'{"inputs":"', rb"\u0000"),
        (b'{"a":0', b',"a":0'),
        (b"[0", b",0"),
    )
    size = 20 * MEGABYTE

    async def run(self) -> None:
        await self.crowd(len(self.bombs), self._once, pause=0.2)

    async def _once(self, wire: Wire, index: int) -> None:
        start, unit = self.bombs[index]
        given = {"Content-Type": "application/json", "Content-Length": len(start) + self.size}
        await wire.send(head("POST", f"/img-classification/{self.target.tier}", given) + start)
        await wire.send_all(pieces(self.size, unit))
        await wire.answer(10.0)


class Forms(Attack):
    """Three forms of 72 MB and a JSON of 96 MB at once: each of them is allowed."""

    name = "forms"

    async def run(self) -> None:
        await self.crowd(4, self._once, pause=60.0)  # once: each that is accepted is written to the disk

    async def _once(self, wire: Wire, index: int) -> None:
        whole = list(form(8) if index else inputs(8))
        kind = FORM if index else "application/json"
        await wire.send(upload_head(self.target.tier, kind, sum(map(len, whole))))
        await wire.send_all(whole)
        await wire.answer(30.0)


class HangUps(Attack):
    """Twelve uploads whose clients hang up shortly before the end."""

    name = "hang-ups"

    async def run(self) -> None:
        await self.crowd(12, self._once, pause=0.5)

    async def _once(self, wire: Wire, index: int) -> None:
        whole = list(form(4))
        await wire.send(upload_head(self.target.tier, FORM, sum(map(len, whole))))
        await wire.send_all(whole[:-1])


class Replays(Attack):
    """The same large request with the same Idempotency-Key, again and again."""

    name = "replays"

    async def run(self) -> None:
        await self.crowd(4, self._once)

    async def _once(self, wire: Wire, index: int) -> None:
        whole = list(form(4))
        await wire.send(upload_head(self.target.tier, FORM, sum(map(len, whole)), {"Idempotency-Key": "the-same"}))
        await wire.send_all(whole)
        await wire.answer(10.0)


class InternalBodies(Attack):
    """Bodies on the internal port from strangers, with no token or with garbage."""

    name = "internal"
    paths = ("/work/channel", "/work/complete", "/work/lease", "/metrics", "/nope")
    size = 15 * MEGABYTE

    async def run(self) -> None:
        await self.crowd(40, self._once, port=self.target.internal_port, pause=0.2)

    async def _once(self, wire: Wire, index: int) -> None:
        given: dict[str, object] = {"Content-Length": self.size, "Content-Type": "application/json"}
        if index % 2:
            given["Authorization"] = f"Bearer free.job.{self.chance.randbytes(32).hex()}"
        await wire.send(head("POST", self.paths[index % len(self.paths)], given))
        await wire.send_all(pieces(self.size, b"["))
        await wire.answer()


def upload_head(tier: str, kind: str, length: int, more: dict[str, str] | None = None) -> bytes:
    """The head of an upload that does not wait for its result."""
    given: dict[str, object] = {
        "Content-Type": kind,
        "Content-Length": length,
        "Prefer": "respond-async",
        **(more or {}),
    }
    return head("POST", f"/img-classification/{tier}", given)


def form(count: int, picture: bytes = PICTURE) -> Iterable[bytes]:
    """A form with so many pictures, which have 9 MB each unless another one is given."""
    for index in range(count):
        yield (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{index}"; filename="a.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode()
        yield picture
        yield b"\r\n"
    yield f"--{BOUNDARY}--\r\n".encode()


def inputs(count: int) -> Iterable[bytes]:
    """A JSON body with so many pictures of 9 MB."""
    picture = json.dumps(base64.b64encode(PICTURE).decode()).encode()
    for index in range(count):
        yield b"," if index else b'{"inputs":['
        yield picture
    yield b"]}"
