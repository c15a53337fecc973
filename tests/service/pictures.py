"""Pictures in all the forms in which strangers send them."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

from tests.running import ROOT

CAT = (ROOT / "model" / "pictures" / "cat.jpg").read_bytes()


def encode(picture: Image.Image, form: str, **options: object) -> bytes:
    """A picture's bytes."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def cat() -> Image.Image:
    """The cat, decoded."""
    return Image.open(io.BytesIO(CAT)).convert("RGB")


def rotated() -> bytes:
    """The cat lying on its side, with the EXIF tag that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(cat().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)


def animated() -> bytes:
    """A GIF whose first frame is the cat."""
    return encode(cat(), "GIF", save_all=True, append_images=[Image.new("RGB", cat().size)] * 3)


def sixteen_bit() -> bytes:
    """The cat in 16-bit grey."""
    return encode(cat().convert("L").convert("I").point(lambda value: value * 256).convert("I;16"), "PNG")


def bomb(side: int = 50_000) -> bytes:
    """A black PNG with so many pixels on each side, which takes few bytes for its size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
