"""How a picture lies in its file, by what its metadata tells: EXIF, XMP, or one of them in a text of a PNG.

All of it is read within bounds, and damage is as good as nothing told. XMP is XML of which only ``tiff:Orientation`` is
looked for, as an attribute or as an element: no parser runs, so there are no entities and no depth.
"""

from __future__ import annotations

import re
import struct
import zlib

EXIF_START, XMP_START = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
"""How EXIF and XMP begin in a segment of a JPEG."""
XMP_KEY = b"XML:com.adobe.xmp"
"""The key of the text of a PNG that is XMP."""
MOST_TEXT = 2**18
"""So many bytes of a text are unpacked and looked at, and so many of XMP."""

_TAG = 0x0112
_INTEGERS = {1: "B", 3: "H", 4: "I"}  # EXIF's types BYTE, SHORT and LONG
_IN_XMP = re.compile(rb"tiff:Orientation\s{0,9}(?:=\s{0,9}[\"']|>)\s{0,9}([1-8])\s{0,9}[\"'<]")
_RAW_PROFILE = re.compile(rb"Raw profile type (exif|app1|xmp)", re.IGNORECASE)


def of_exif(exif: bytes) -> int | None:
    """Return the orientation that EXIF data tells, 1 to 8; None if it tells none.

    Pillow's own reader copies the bytes of every tag: 64 KB of tags that share their bytes would take 350 MB.
    """
    body = exif.removeprefix(EXIF_START)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(body[:4])
    if order is None:
        return None
    try:
        (offset,) = struct.unpack_from(order + "I", body, 4)
        (count,) = struct.unpack_from(order + "H", body, offset)
        for at in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", body, at)
            if tag == _TAG and kind in _INTEGERS:
                return _valid(int(struct.unpack_from(order + _INTEGERS[kind], body, at + 8)[0]))
    except struct.error:
        pass
    return None


def of_xmp(xmp: bytes) -> int | None:
    """Return the orientation that XMP tells, 1 to 8; None if it tells none."""
    found = _IN_XMP.search(xmp[:MOST_TEXT].replace(b"\0", b""))  # in UTF-16, every other byte is 0
    return int(found[1]) if found else None


def of_app1(content: bytes) -> int | None:
    """Return the orientation that a segment APP1 of a JPEG tells, which may be EXIF or XMP; None if it tells none."""
    if content.startswith(XMP_START):
        return of_xmp(content)
    return of_exif(content) if content.startswith(EXIF_START) else None


def text_of_png(kind: bytes, content: bytes) -> tuple[bytes, bytes]:
    """Return the key of a text of a PNG, and the first ``MOST_TEXT`` bytes of its text.

    Both are empty if it is neither XMP nor a profile in the manner of ImageMagick, or cannot be unpacked.
    """
    key, _, rest = content.partition(b"\0")
    if key != XMP_KEY and not _RAW_PROFILE.fullmatch(key):
        return b"", b""
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed, rest = rest[:1] == b"\1", b"\0" + rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    if not packed:
        return key, rest.removeprefix(b"\0")[:MOST_TEXT]
    try:
        return key, zlib.decompressobj().decompress(rest[1:], MOST_TEXT)
    except zlib.error:
        return b"", b""


def of_text(key: bytes, text: bytes) -> int | None:
    """Return the orientation that a text of a PNG tells, 1 to 8; None if it tells none.

    ImageMagick writes a profile as a line with its name, a line with its length, and hexadecimal digits.
    """
    if key == XMP_KEY:
        return of_xmp(text)
    lines = text.strip().split(b"\n", 2)
    digits = re.sub(rb"\s", b"", lines[-1])
    if len(lines) < 3 or not re.fullmatch(rb"[0-9a-fA-F]+", digits):
        return None
    profile = bytes.fromhex(digits[: len(digits) & ~1].decode())
    return of_xmp(profile) if key.lower().endswith(b"xmp") else of_app1(profile) or of_exif(profile)


def _valid(told: int) -> int | None:
    return told if 1 <= told <= 8 else None
