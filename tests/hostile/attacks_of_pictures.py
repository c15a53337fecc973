"""Pictures that are small, allowed, and take very long to decode."""

from __future__ import annotations

import struct

from tests.hostile.attack import Attack
from tests.hostile.attacks_of_bodies import upload_head
from tests.hostile.wire import Wire

BLOCK = 8
RUN_BITS = "0" + "10" * 7  # the only Huffman code, then 14 bits: so many blocks have no further coefficients
RUN_BLOCKS = (1 << 14) + int("10" * 7, 2)


class Scans(Attack):
    """Progressive JPEGs of thousands of scans, each of which visits all pixels."""

    name = "scans"

    async def run(self) -> None:
        self._picture = many_scans(1600)
        await self.crowd(2, self._once, pause=0.5)

    async def _once(self, wire: Wire, index: int) -> None:
        await wire.send(upload_head(self.target.tier, "image/jpeg", len(self._picture)))
        await wire.send(self._picture)
        await wire.answer()


def many_scans(scans: int, width: int = 5600, height: int = 4200) -> bytes:
    """A grey progressive JPEG with so many scans. Each scan takes 40 bytes.

    It refines nothing, and for that visits every coefficient of every block.
    """
    blocks = -(-width // BLOCK) * -(-height // BLOCK)
    bits = RUN_BITS * -(-blocks // RUN_BLOCKS)
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    scan = _segment(0xDA, bytes([1, 1, 0x00, 1, 63, 0x10])) + data
    tables = _segment(0xDB, bytes([0]) + bytes([1]) * 64) + _segment(0xC4, bytes([0x10, 1, *[0] * 15, 0xE0]))
    frame = _segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + bytes([1, 0x11, 0]))
    return b"\xff\xd8" + tables + frame + scan * scans + b"\xff\xd9"


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(data)) + data
