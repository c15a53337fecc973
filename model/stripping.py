"""Leave out of a picture what its pixels do not need, after reading there how it lies and what its numbers mean.

Comments, profiles, previews and whatever programs put into files are often large or damaged, and decoders refuse good
pictures for that. So a decoder sees only what it needs. What pixels need stays as it is, and the decoder judges it. The
walks take time linear in the bytes, and ``model.structure`` has bounded the number of parts before.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from model.formats import format_of
from model.orientation import EXIF_START, XMP_KEY, of_app1, of_exif, of_text, of_xmp, text_of_png
from model.structure import SCAN, STRAY, WITHOUT_LENGTH, segments
from model.tiff import confined

MOST_LOOKED = 20
"""So many pieces of metadata of a picture are looked at."""

_APP0, _APP1, _APP14, _APP15, _COM = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
# Of AVIF, the boxes irot and imir count and not EXIF. An item of another type is ignored by the decoder.
_AVIF_EXIF, _AVIF_HEAD = re.compile(rb"(infe[\2\3].{3}(?:.{4}|.{6}))Exif", re.DOTALL), 2**20
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_CLEAR = {0: 2, 2: 6}  # by the colour type of a PNG: how many bytes tRNS must have
_GIF_CONTROL = 0xF9
_WEBP_PIXELS = (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_WEBP_METADATA = 0x2C  # the flags of a profile, of EXIF and of XMP


@dataclass(frozen=True, slots=True)
class Bare:
    """A picture without what its pixels do not need."""

    data: bytes
    turned: int | None = None
    """EXIF's orientation, 1 to 8; None if nothing tells it."""
    bits: int | None = None
    """How many bits of each grey mean something, as a PNG's sBIT says; None if nothing says it."""


def stripped(data: bytes) -> Bare:
    """Return the picture without metadata. EXIF tells its orientation first, then XMP. Damaged parts stay damaged.

    Raises ``ImageError`` for a TIFF that ``model.tiff`` does not take.
    """
    match format_of(data):
        case "JPEG":
            return _jpeg(data)
        case "PNG":
            return _png(data)
        case "WebP":
            return _webp(data)
        case "GIF":
            return _gif(data)
        case "TIFF":
            return Bare(*confined(data))
        case "AVIF":
            return Bare(_AVIF_EXIF.sub(rb"\1skip", data[:_AVIF_HEAD]) + data[_AVIF_HEAD:])
    return Bare(data)


def _jpeg(data: bytes) -> Bare:
    kept, told = [data[:2]], list[bytes]()
    for marker, start, end in segments(data):
        if marker == STRAY or marker in WITHOUT_LENGTH:
            continue
        if end > len(data):
            return Bare(data)
        if marker == SCAN:
            kept.append(data[start - 4 :])
            break
        if marker == _APP1 and len(told) < MOST_LOOKED:
            told.append(data[start:end])
        if _is_needed(marker, data, start, end):
            kept.append(data[start - 4 : end])
    else:
        return Bare(data)
    exif = [content for content in told if content.startswith(EXIF_START)]
    return Bare(b"".join(kept), _first(map(of_app1, exif)) or _first(map(of_app1, told)))


def _is_needed(marker: int, data: bytes, start: int, end: int) -> bool:
    """Whether a segment is no metadata. Two kinds of them say how colours are stored."""
    if marker == _APP0:
        return data.startswith(b"JFIF\0", start) and end - start >= 14
    if marker == _APP14:
        return data.startswith(b"Adobe", start) and end - start >= 12
    return not (_APP0 < marker <= _APP15 or marker == _COM)


def _png(data: bytes) -> Bare:
    view, at = memoryview(data), 8
    kept: list[bytes | memoryview] = [view[:8]]
    exif, texts, bits, colour = list[int | None](), list[tuple[bytes, bytes]](), None, -1
    while at + 8 <= len(data):
        kind, start = data[at + 4 : at + 8], at + 8
        end = start + int.from_bytes(data[at : at + 4], "big")
        content = view[start : min(end, start + 2**20)]
        if kind == b"IEND":
            break
        if kind == b"IHDR" and len(content) >= 10:
            colour = content[9]
        if kind == b"eXIf" and len(exif) < MOST_LOOKED:
            exif.append(of_exif(bytes(content)))
        elif kind in _TEXTS and len(texts) < MOST_LOOKED:
            texts += [text for text in [text_of_png(kind, bytes(content))] if text[0]]
        elif kind == b"sBIT" and content and 1 <= content[0] <= 16:
            bits = content[0]
        elif kind == b"tRNS" and _CLEAR.get(colour, 1) <= len(content) <= 256:
            kept.append(_chunk(kind, bytes(content)))  # with the right checksum
        if not kind.isalpha() or kind[:1].isupper():
            kept.append(view[at : end + 4])
        at = end + 4
    kept.append(_chunk(b"IEND", b""))
    texts.sort(key=lambda text: text[0] == XMP_KEY or text[0].endswith(b"xmp"))
    return Bare(b"".join(kept), _first(exif) or _first(of_text(*text) for text in texts), bits)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _webp(data: bytes) -> Bare:
    if data[12:16] != b"VP8X" or len(data) < 30:
        return Bare(data)
    view, at, exif, xmp = memoryview(data), 30, list[int | None](), list[int | None]()
    kept: list[bytes | memoryview] = [b"VP8X\x0a\0\0\0", bytes([data[20] & ~_WEBP_METADATA]), view[21:30]]
    while at + 8 <= len(data):
        kind, start = data[at : at + 4], at + 8
        size = int.from_bytes(data[at + 4 : start], "little")
        end = start + size + size % 2
        if kind == b"EXIF" and len(exif) < MOST_LOOKED:
            exif.append(of_exif(data[start : start + min(size, 2**20)]))
        elif kind == b"XMP " and len(xmp) < MOST_LOOKED:
            xmp.append(of_xmp(data[start : start + min(size, 2**20)]))
        elif kind in _WEBP_PIXELS:
            kept.append(view[at:end])
        at = end
    body = b"".join([b"WEBP", *kept])
    return Bare(b"RIFF" + struct.pack("<I", len(body)) + body, _first([*exif, *xmp]))


def _gif(data: bytes) -> Bare:
    """Leave out the extensions up to the first frame, but for those that say how a frame is shown."""
    if len(data) < 13:
        return Bare(data)
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    kept = [data[:at]]
    while at + 1 < len(data) and data[at] not in b",;":
        begin, extension = at, data[at] == ord("!")
        at += 2 if extension else 1
        while extension and at < len(data) and data[at]:
            at += 1 + data[at]
        if extension and data[begin + 1] == _GIF_CONTROL and data[begin + 2 : begin + 3] == b"\4":
            kept.append(data[begin : at + 1])
        at += extension
    return Bare(b"".join([*kept, data[at:]]))


def _first(told: Iterable[int | None]) -> int | None:
    return next((turned for turned in told if turned), None)
