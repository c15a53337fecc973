"""Pictures from parts; small ones that would take a decoder long, by the name of what makes them slow."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from model.images import Preprocessing

PICTURES = Path(__file__).parents[2] / "model" / "pictures"
LITE0 = Preprocessing(
    width=224,
    height=224,
    channels=3,
    crop_mode="center",
    crop_pct=0.875,
    interpolation="bicubic",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
LIMIT = 40_000_000
MEGABYTE = 2**20


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int = 8, colour: int = 2, rows: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def thousands_of_scans(size: tuple[int, int] = (6000, 4000), scans: int = 1500) -> bytes:
    """A progressive JPEG that ends with many scans of a few bytes. Each makes a decoder refine the whole picture."""
    plain = encoded(Image.new("RGB", size, (90, 120, 30)), "JPEG", progressive=True)
    last = plain[plain.rindex(b"\xff\xda") : -2]
    assert len(last) < 50
    return plain[:-2] + last * scans + b"\xff\xd9"


def in_jpeg(inserted: bytes) -> bytes:
    """A JPEG with these bytes at its start, and without the header that tells its resolution."""
    plain = encoded(Image.new("RGB", (64, 64)), "JPEG")
    return plain[:2] + inserted + plain[20:]


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def in_png(inserted: bytes, *, late: bool = False) -> bytes:
    plain = encoded(Image.new("RGB", (64, 64)), "PNG")
    at = len(plain) - 12 if late else 33
    return plain[:at] + inserted + plain[at:]


def packed(kind: bytes, head: bytes) -> bytes:
    """A chunk that unpacks to almost 1 MB, the most that Pillow accepts."""
    return chunk(kind, head + zlib.compress(bytes(MEGABYTE - 10), 9))


def in_gif(inserted: bytes) -> bytes:
    plain = encoded(Image.new("P", (64, 64)), "GIF")
    at = 13 + (3 << (plain[10] & 7) + 1 if plain[10] & 0x80 else 0)
    return plain[:at] + inserted + plain[at:]


def exif_tags(count: int, size: int) -> bytes:
    """EXIF data whose tags all have the same many bytes."""
    tags = b"".join(struct.pack("<HHII", number, 1, size, 0) for number in range(count))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + tags + bytes(4)


def webp_canvas(width: int, height: int) -> bytes:
    file = io.BytesIO()
    frames = [Image.new("RGBA", (16, 16), (number, 0, 0, 9)) for number in (1, 2)]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    data = bytearray(file.getvalue())
    assert data[12:16] == b"VP8X"
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


TOO_SLOW: dict[str, Callable[[], bytes]] = {
    "JPEG of thousands of scans": thousands_of_scans,
    "arithmetic JPEG of thousands of scans": lambda: thousands_of_scans().replace(b"\xff\xc2", b"\xff\xca", 1),
    "JPEG of empty segments": lambda: in_jpeg(segment(0xE3, b"") * 500_000),
    "JPEG of padding": lambda: in_jpeg(b"\xff" * 2_000_000),
    "JPEG of stray bytes": lambda: in_jpeg(segment(0xE3, b"") + b"\xff\x00" * 500_000),
    "PNG of unknown chunks": lambda: in_png(chunk(b"abCd", b"") * 200_000),
    "PNG of empty data": lambda: in_png(chunk(b"IDAT", b"") * 200_000),
    "PNG of chunks behind the pixels": lambda: in_png(chunk(b"abCd", b"") * 200_000, late=True),
    "GIF of one-byte blocks": lambda: in_gif(b"!\xfe" + b"\x01a" * 500_000 + b"\0"),
    "GIF of comments": lambda: in_gif(b"!\xfe\x01a\0" * 200_000),
    "GIF of control blocks": lambda: in_gif(b"!\xf9\x04\0\0\0\0\0" * 200_000),
    "GIF of stray bytes": lambda: in_gif(b"x" * 500_000),
}

HONEST: dict[str, Callable[[], bytes]] = {
    "JPEG of EXIF segments": lambda: in_jpeg(
        segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 20 + segment(0xE1, b"Exif\0\0.") * 20_000
    ),
    "PNG of profiles": lambda: in_png(packed(b"iCCP", b"p\0\0") * 500),
    "PNG of profiles behind the pixels": lambda: in_png(packed(b"iCCP", b"p\0\0") * 500, late=True),
    "PNG of texts without keys": lambda: in_png(packed(b"zTXt", b"\0\0") * 500),
    "PNG of international texts": lambda: in_png(packed(b"iTXt", b"k\0\1\0\0\0") * 500),
    "JPEG of tags that share their bytes": lambda: in_jpeg(segment(0xE1, b"Exif\0\0" + exif_tags(5400, 64_000))),
    "JPEG that tells of several pictures": lambda: in_jpeg(segment(0xE2, b"MPF\0" + bytes(40))),
    "progressive JPEG": lambda: encoded(Image.new("RGB", (6000, 4000), (90, 120, 30)), "JPEG", progressive=True),
    "small JPEG of a hundred scans": lambda: thousands_of_scans((640, 480), 90),
    "JPEG with a profile in many segments": lambda: in_jpeg(
        b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes([number, 90]) + bytes(60_000)) for number in range(1, 91))
    ),
    "JPEG with EXIF": lambda: in_jpeg(segment(0xE1, b"Exif\0\0" + exif_tags(40, 4))),
    "PNG of small chunks": lambda: in_png(chunk(b"tEXt", b"key\0text") * 5000),
    "PNG of texts": lambda: in_png(chunk(b"zTXt", b"key\0\0" + zlib.compress(b"text")) * 90),
    "16-bit PNG": lambda: png(100, 100, 16, 6, zlib.compress(bytes(801 * 100))),
    "GIF with a long comment": lambda: in_gif(b"!\xfe" + (b"\xff" + b"a" * 255) * 4000 + b"\0"),
}
