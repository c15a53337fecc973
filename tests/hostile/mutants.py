"""Damaged pictures, made from small real ones of every format and kind. Each follows from a seed and a number."""

from __future__ import annotations

import random
import re
import struct
import zlib
from functools import cache
from itertools import pairwise

import numpy as np
from PIL import Image

from tests.model.pictures import HONEST, PICTURES, chunk, encoded, exif_tags, in_jpeg, in_png, png, segment

MAGICS = (
    b"\xff\xd8\xff\xe0",
    b"\xff\xd8\xff\xe1",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"RIFF....WEBPVP8 ",
    b"II*\0",
    b"MM\0*",
    b"BM",
)
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0xFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
LARGEST = 2**20
_PNG = b"\x89PNG\r\n\x1a\n"


@cache
def seeds() -> tuple[bytes, ...]:
    """The real pictures, all at most 48 x 32 pixels."""
    with Image.open(PICTURES / "cat.jpg") as opened:
        cat = opened.convert("RGB").resize((48, 32))
    clear = cat.copy()
    clear.putalpha(Image.linear_gradient("L").resize(cat.size))
    palette, grey = cat.quantize(16), cat.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = bytes(range(256)) * 4
    progressive = encoded(cat, "JPEG", progressive=True, exif=exif)
    others: list[tuple[Image.Image, str, dict[str, object]]] = [
        (cat, "JPEG", {"exif": exif, "icc_profile": profile, "comment": b"cat"}),
        (cat, "JPEG", {"subsampling": 0, "restart_marker_blocks": 1}),
        (cat.convert("CMYK"), "JPEG", {}),
        (cat.convert("CMYK"), "JPEG", {"progressive": True}),
        (grey, "JPEG", {}),
        (cat, "MPO", {"save_all": True, "append_images": [cat.rotate(180)]}),
        (cat, "PNG", {"exif": exif, "icc_profile": profile}),
        (clear, "PNG", {}),
        (grey.convert("LA"), "PNG", {}),
        (grey.convert("1"), "PNG", {}),
        (deep, "PNG", {}),
        (palette, "PNG", {"transparency": bytes(range(16))}),
        (clear, "PNG", {"save_all": True, "append_images": [clear.rotate(180)], "duration": 9}),
        (palette, "GIF", {"comment": b"cat"}),
        (palette, "GIF", {"interlace": 0, "save_all": True, "append_images": [cat.rotate(180).quantize(8)], "loop": 0}),
        (palette, "GIF", {"transparency": 3, "interlace": 1}),
        (cat, "WEBP", {}),
        (clear, "WEBP", {"exif": exif, "icc_profile": profile}),
        (clear, "WEBP", {"lossless": True}),
        (cat, "WEBP", {"lossless": True, "xmp": b"<x/>"}),
        (clear, "WEBP", {"save_all": True, "append_images": [clear.rotate(180)], "lossless": True}),
        (clear, "WEBP", {"save_all": True, "append_images": [clear.rotate(180)], "duration": 9}),
        (clear, "AVIF", {"exif": exif, "speed": 10}),
        (grey, "AVIF", {"speed": 10}),
        (cat, "TIFF", {"exif": exif}),
        (clear, "TIFF", {"compression": "tiff_lzw"}),
        (deep, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (palette, "TIFF", {"compression": "packbits", "save_all": True, "append_images": [cat]}),
        (cat.convert("CMYK"), "TIFF", {"big_tiff": True, "tiffinfo": {278: 4}}),
        (grey.convert("F"), "TIFF", {}),
        (cat, "BMP", {}),
        (palette, "BMP", {}),
    ]
    interlaced = bytearray(png(9, 9, 8, 6, zlib.compress(bytes(600))))
    interlaced[28] = 1
    return (
        progressive,
        progressive.replace(b"\xff\xc2", b"\xff\xca", 1),
        encoded(cat, "JPEG").replace(b"\xff\xc0", b"\xff\xc9", 1),
        *(encoded(picture, form, **options) for picture, form, options in others),
        bytes(_repaired(interlaced)),
        in_png(chunk(b"zTXt", b"k\0\0" + zlib.compress(b"text" * 99)) + chunk(b"iTXt", b"k\0\1\0\0\0" + profile)),
        in_jpeg(
            segment(0xE1, b"Exif\0\0" + exif_tags(9, 4)) + segment(0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\x10")
        ),
        HONEST["JPEG with EXIF"](),
    )


@cache
def parts(number: int) -> tuple[int, ...]:
    """Where segments, chunks or blocks begin in a seed, roughly."""
    data = seeds()[number]
    if data.startswith(_PNG):
        starts = [match.start() - 4 for match in re.finditer(rb"[A-Za-z]{3}[A-Z]|fc..|fd..|ac..|t.Xt", data)]
    elif data.startswith(b"RIFF"):
        starts = [match.start() for match in re.finditer(rb"VP8.|ANI.|ANMF|ALPH|ICCP|EXIF|XMP ", data)]
    elif data[4:8] == b"ftyp":
        starts = [
            match.start() - 4
            for match in re.finditer(rb"ftyp|meta|hdlr|pitm|iloc|i[ri]nf|infe|iprp|ipma|mdat|av1C", data)
        ]
    elif data.startswith((b"II", b"MM", b"BM")):
        starts = [2, 4, 8, 14, 54, int.from_bytes(data[4:8], "little") % len(data)]
    elif data.startswith(b"GIF"):
        starts = [6, 10, 13, *(match.start() for match in re.finditer(rb"!\xf9|!\xfe|!\xff|,\0\0\0\0", data))]
    else:
        starts = [match.start() for match in re.finditer(rb"\xff[\xc0-\xfe]", data)]
    return tuple(sorted({0, *(max(start, 0) for start in starts), len(data)}))


def mutant(seed: int, number: int) -> bytes:
    """Return the damaged picture with this number."""
    dice = random.Random(f"{seed} {number}")
    which = dice.randrange(len(seeds()))
    data = bytearray(seeds()[which])
    if dice.random() < 0.05:
        data = bytearray(dice.choice(MAGICS) + dice.randbytes(dice.randrange(2000)))
    elif dice.random() < 0.08:  # the head of one and the tail of another
        other = seeds()[dice.randrange(len(seeds()))]
        data = data[: dice.randrange(len(data))] + other[dice.randrange(len(other)) :]
    elif dice.random() < 0.4:
        data = _rearranged(dice, which)
    for _ in range(dice.choice((0, 1, 1, 2, 3, 8))):
        _damage(dice, data)
    if dice.random() < 0.6:
        data = _repaired(data)
    return bytes(data[:LARGEST])


def _rearranged(dice: random.Random, which: int) -> bytearray:
    """A seed one part of which is left out, repeated, moved or taken from another seed."""
    borders, data = parts(which), seeds()[which]
    pieces = [data[start:end] for start, end in pairwise(borders)]
    at = dice.randrange(len(pieces))
    match dice.randrange(4):
        case 0:
            del pieces[at]
        case 1:
            pieces[at] *= dice.choice((2, 3, 10, 300))
        case 2:
            pieces.insert(dice.randrange(len(pieces)), pieces.pop(at))
        case _:
            other = dice.randrange(len(seeds()))
            start = dice.randrange(len(parts(other)) - 1)
            pieces.insert(at, seeds()[other][parts(other)[start] : parts(other)[start + 1]])
    return bytearray(b"".join(pieces))


def _damage(dice: random.Random, data: bytearray) -> None:
    near = dice.choice((30, 30, 200, len(data)))  # mostly in the headers
    at = dice.randrange(max(1, min(len(data), near)))
    if at < 16 and dice.random() < 0.8:  # damage of the magic bytes leads nowhere
        at += 16
    match dice.randrange(7):
        case 0:
            data[at : at + 1] = bytes([(data[at] if at < len(data) else 0) ^ 1 << dice.randrange(8)])
        case 1:
            data[at : at + 1] = dice.randbytes(1)
        case 2:
            size = dice.choice((1, 2, 3, 4))
            value = dice.choice(EXTREMES) % 256**size
            data[at : at + size] = value.to_bytes(size, dice.choice(("big", "little")))
        case 3:
            del data[at : at + dice.choice((1, 1, 2, 4, 20, 500))]
        case 4:
            data[at:at] = dice.randbytes(dice.choice((1, 1, 2, 4, 20, 500)))
        case 5:
            data[at:at] = data[at : at + dice.choice((1, 4, 20, 500))] * dice.choice((1, 2, 50))
        case _:
            if dice.random() < 0.3:
                del data[dice.randrange(len(data) + 1) :]


def _repaired(data: bytearray) -> bytearray:
    """Correct checksums and lengths, so that the damage gets further than to them."""
    if data.startswith(b"RIFF"):
        data[4:8] = struct.pack("<I", max(len(data) - 8, 0))
    if not data.startswith(_PNG):
        return data
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return data
