"""What a picture's structure tells without decoding a pixel: whether it is cheap, and whether it would take too long.

A small file can take a decoder minutes: thousands of scans of a progressive JPEG, millions of empty segments. These are
counted here, in time linear in the bytes. The walks follow Pillow's readers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

MOST_PARTS = 100_000
"""Segments, chunks, blocks and stray bytes of one picture: Pillow takes 2 to 9 microseconds for each."""
MOST_PASSES = 2_400_000_000
"""Pixels times scans of a JPEG: a scan costs about a nanosecond per pixel, however few bytes it has."""

# A plain JPEG is decoded within a fraction of a second and in little memory, so it needs no process that can be killed.
PLAIN_BYTES, PLAIN_PIXELS, PLAIN_ASPECT, PLAIN_SEGMENTS = 2**25, 50_000_000, 4, 100
PLAIN_WHOLE_PIXELS = 2_000_000
"""The most pixels of a plain JPEG of which all pixels are decoded, at up to 12 bytes and 10 nanoseconds each."""

SCAN, STRAY = 0xDA, 0
"""The marker of a scan, and what stands in the place of a marker for a byte that belongs to no segment."""
_DHT, _JPG, _DAC = 0xC4, 0xC8, 0xCC
_FRAMES = frozenset(range(0xC0, 0xD0)) - {_DHT, _JPG, _DAC}
_BASELINE = (0xC0, 0xC1)
_UNREAD = dict.fromkeys((0xC3, 0xCB), "lossless JPEG") | dict.fromkeys(
    (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical JPEG"
)
_JPEG_LS = 0xF7
WITHOUT_LENGTH = frozenset([_JPG, *range(0xD0, 0xDA), *range(0xF0, 0xFE)])
"""Markers that no length follows, as Pillow sees it."""


class ImageError(Exception):
    """The bytes of a picture cannot be classified.

    ``code`` is stable: ``image_empty``, ``image_unsupported``, ``image_too_large``, ``image_too_slow``,
    ``image_truncated`` or ``image_broken``. ``detail`` is a sentence, with the limit that was exceeded.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def is_plain(data: bytes, most_pixels: int = PLAIN_PIXELS) -> bool:
    """Whether the bytes are a JPEG with one scan, and nothing in it makes decoding slow or takes much memory.

    Reads the header only. Anything unusual in the header makes a picture not plain.
    """
    if not data.startswith(b"\xff\xd8\xff") or len(data) > PLAIN_BYTES:
        return False
    layers = 0
    for number, (marker, start, end) in enumerate(segments(data)):
        if marker == SCAN:
            return layers > 0 and start < len(data) and data[start] == layers
        if number == PLAIN_SEGMENTS or marker in WITHOUT_LENGTH or marker == STRAY or end > len(data):
            return False
        if marker in _FRAMES:
            if layers or marker not in _BASELINE or end - start < 6 or not _is_moderate(data, start, most_pixels):
                return False
            layers = data[start + 5]
    return False


def check(data: bytes, max_pixels: int) -> None:
    """Raise ``ImageError`` for a kind that is not taken or takes very long, or a WEBP of more than ``max_pixels``.

    Takes time linear in the bytes, at most 0.1 s for 10 MB. Bytes that are no picture, or a damaged one, pass.
    """
    if data.startswith(b"\xff\xd8\xff"):
        if not is_plain(data):
            _check_jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(data)
    elif data.startswith(b"GIF8"):
        _check_gif(data)
    elif data.startswith(b"BM"):
        _check_bmp(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        check_pixels(*_webp_size(data), max_pixels)


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise ``ImageError`` if a picture of this size has more than ``max_pixels``."""
    if width * height > max_pixels:
        detail = f"The picture has {width} x {height} = {width * height} pixels; the limit is {max_pixels}."
        raise ImageError("image_too_large", detail)


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker of each segment of a JPEG and where its content starts and ends, up to the first scan."""
    at, size = 2, len(data)
    while at + 1 < size:
        marker = data[at + 1] if data[at] == 0xFF else STRAY
        if marker in (STRAY, 0xFF):
            yield STRAY, at, at + 1
            at += 1
        elif marker in WITHOUT_LENGTH:
            yield marker, at + 2, at + 2
            at += 2
        else:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            yield marker, at + 4, end
            if marker == SCAN:
                return
            at = max(end, at + 4)


def _is_moderate(data: bytes, frame: int, most_pixels: int) -> bool:
    height, width = struct.unpack_from(">HH", data, frame + 1)
    short, long = sorted((int(width), int(height)))
    return data[frame] == 8 and 0 < short * long <= most_pixels and long <= PLAIN_ASPECT * short


def _check_kind(data: bytes) -> None:
    """Refuse by its name a JPEG that no decoder here reads."""
    for marker, start, end in segments(data):
        kind = "JPEG-LS" if marker == _JPEG_LS else _UNREAD.get(marker)
        if kind is None and marker in _FRAMES and start < end and data[start : start + 1] != b"\x08":
            kind = f"JPEG of {data[start]} bits for each colour" if start < len(data) else None
        if kind is not None:
            raise ImageError(
                "image_unsupported",
                f"The picture is a {kind}, which is not taken: save it as an ordinary JPEG or as PNG.",
            )
        if marker in _FRAMES or marker == SCAN:
            return


def _check_jpeg(data: bytes) -> None:
    pixels = 0
    _check_kind(data)
    for number, (marker, start, end) in enumerate(segments(data)):
        _check_parts(number)
        if marker in _FRAMES and end - start >= 6 and end <= len(data):
            height, width = struct.unpack_from(">HH", data, start + 1)
            pixels = max(pixels, width * height)
    # Some of these may be metadata and no scans, but a scan cannot be without them.
    scans = data.count(b"\xff\xda")
    if scans * pixels > MOST_PASSES:
        detail = f"The picture has {pixels} pixels and {scans} scans; at most {MOST_PASSES // pixels} are decoded."
        raise ImageError("image_too_slow", detail)


def _check_png(data: bytes) -> None:
    at, parts = 8, 0
    while at + 8 <= len(data):
        kind = data[at + 4 : at + 8]
        if kind == b"IEND":
            return
        parts += 1
        _check_parts(parts)
        at += 12 + int.from_bytes(data[at : at + 4], "big")


def _check_gif(data: bytes) -> None:
    """Count the blocks up to the first frame."""
    if len(data) < 13:
        return
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    parts = 0
    while at < len(data) and data[at] not in b",;":
        parts += 1
        _check_parts(parts)
        if data[at] != ord("!"):
            at += 1
            continue
        at += 2  # an extension: its kind, then blocks that begin with their length, and an empty one at the end
        while at < len(data) and data[at]:
            parts += 1
            _check_parts(parts)
            at += 1 + data[at]
        at += 1


def _check_bmp(data: bytes) -> None:
    """Refuse by its name a compressed BMP: Pillow unpacks it byte by byte, in Python."""
    packed = int.from_bytes(data[30:34], "little") if data[14] >= 40 and len(data) >= 34 else 0
    if packed not in (0, 3, 6):  # plain, and with masks for the colours
        raise ImageError("image_unsupported", "The picture is a compressed BMP, which is not taken: save it as PNG.")


def _check_parts(parts: int) -> None:
    if parts > MOST_PARTS:
        raise ImageError("image_too_slow", f"The picture has more than {MOST_PARTS} segments, chunks or blocks.")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return the width and height of the canvas, for which libwebp takes memory when it opens the file."""
    kind, head = data[12:16], data[20:30]
    if len(head) < 10:
        return 0, 0
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
