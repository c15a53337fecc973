"""Confine a TIFF: its first picture, in the few forms that are taken, with a directory of our own.

TIFF is a box of hundreds of tags, dozens of compressions and any number of pictures. Only the tags of the list below
reach a decoder, from a directory that is written behind the data; so previews, further pages, EXIF and private tags
reach none.
"""

from __future__ import annotations

import struct

from model.structure import MOST_PARTS, ImageError

_SIZES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # the types of whole numbers: BYTE, SHORT, LONG and LONG8
_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _ORIENTATION, _COUNTS = 256, 257, 259, 262, 273, 274, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_SUBFILE, _DNG = 254, 50706
# How many numbers a tag may have. First the bits, then the order in a byte, samples, rows, arrangement, predictor, and
# colours, the meaning of further samples and the kind of numbers.
_MOST = dict.fromkeys((_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _TILE_WIDTH, _TILE_HEIGHT), 1)
_MOST |= {258: 5, 266: 1, 277: 1, 278: 1, 284: 1, 317: 1, 320: 768, 338: 2, 339: 5}
_MOST |= dict.fromkeys((_OFFSETS, _COUNTS, _TILE_OFFSETS, _TILE_COUNTS), MOST_PARTS)
_COMPRESSIONS = (1, 5, 8, 32773, 32946)  # none, LZW, Deflate (new and old), PackBits
_OTHER_COMPRESSIONS = {2: "fax", 3: "fax", 4: "fax", 6: "JPEG", 7: "JPEG", 34712: "JPEG 2000", 34925: "LZMA"}
_OTHER_COMPRESSIONS |= {34887: "LERC", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL"}
_PHOTOMETRICS = (0, 1, 2, 3, 5)  # greys from white, from black, red-green-blue, a palette, inks
_MOST_BEYOND = 1024  # pixels by which a tile may be larger than the picture


def confined(data: bytes) -> tuple[bytes, int | None]:
    """Return a TIFF that has only the first picture of ``data``, and its orientation, 1 to 8, or None.

    Raises ``ImageError``: for a form that is not taken, for too many strips, and for data that would be read often.
    """
    try:
        order, tags = _tags(data)
    except struct.error as error:
        raise ImageError("image_truncated", f"The picture ends early, after {len(data)} bytes.") from error
    _check_form(tags)
    for offsets, counts in ((_OFFSETS, _COUNTS), (_TILE_OFFSETS, _TILE_COUNTS)):
        _check_reading(tags.get(offsets, ()), tags.get(counts, ()), len(data))
    width, height = tags[_WIDTH][0], tags[_HEIGHT][0]
    across, down = tags.get(_TILE_WIDTH, (0,))[0], tags.get(_TILE_HEIGHT, (0,))[0]
    if across > width + _MOST_BEYOND or down > height + _MOST_BEYOND:
        detail = f"The tiles of {across} x {down} pixels are too large for a picture of {width} x {height}."
        raise ImageError("image_broken", detail)
    turned = tags.get(_ORIENTATION, (0,))[0]
    kept = {tag: values for tag, values in tags.items() if tag in _MOST}
    return _written(data, order, kept), turned if 1 <= turned <= 8 else None


def _tags(data: bytes) -> tuple[str, dict[int, tuple[int, ...]]]:
    """Return the order of bytes, and the numbers of the tags of the first directory. Raises ``struct.error``."""
    order = "<" if data.startswith(b"II") else ">"
    big = 43 in data[2:4]
    head, entry, inside = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + head, data, at)
    if count > MOST_PARTS:
        raise ImageError("image_too_slow", f"The picture has more than {MOST_PARTS} tags.")
    at += struct.calcsize(order + head)
    step = struct.calcsize(order + entry) + inside
    tags: dict[int, tuple[int, ...]] = {}
    for start in range(at, at + step * count, step):
        tag, kind, number = struct.unpack_from(order + entry, data, start)
        most = _MOST.get(tag, 1 if tag in (_SUBFILE, _ORIENTATION, _DNG) else 0)
        if not most or tag in tags or kind not in _SIZES:
            continue
        if number > most:
            raise ImageError("image_too_slow", f"The picture's tag {tag} has {number} numbers; the most is {most}.")
        numbers = f"{order}{number}{_SIZES[kind]}"
        place = start + step - inside
        if struct.calcsize(numbers) > inside:
            (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
        tags[tag] = struct.unpack_from(numbers, data, place)
    return order, {tag: numbers for tag, numbers in tags.items() if numbers}


def _check_form(tags: dict[int, tuple[int, ...]]) -> None:
    if _WIDTH not in tags or _HEIGHT not in tags:
        raise ImageError("image_broken", "The TIFF does not say how large its picture is.")
    compression, photometric = tags.get(_COMPRESSION, (1,))[0], tags.get(_PHOTOMETRIC, (0,))[0]
    if _DNG in tags or photometric == 32803 or tags.get(_SUBFILE, (0,))[0] & 1:
        raise ImageError("image_unsupported", "The bytes are a raw picture of a camera: export it as JPEG.")
    if compression not in _COMPRESSIONS:
        name = _OTHER_COMPRESSIONS.get(compression, f"number {compression}")
        _refuse(f"is compressed as {name}; none, LZW, Deflate and PackBits are taken")
    if photometric not in _PHOTOMETRICS:
        _refuse(f"has colours of kind {photometric}; greys, RGB, a palette and CMYK are taken")


def _refuse(why: str) -> None:
    raise ImageError("image_unsupported", f"The TIFF {why}: save it as PNG.")


def _check_reading(offsets: tuple[int, ...], counts: tuple[int, ...], size: int) -> None:
    """Refuse strips or tiles that share their bytes: all would be unpacked again and again."""
    read = sum(max(0, min(count, size - offset)) for offset, count in zip(offsets, counts, strict=False))
    if read > 2 * size:
        raise ImageError("image_too_slow", f"The parts of the picture would read {read} bytes; the file has {size}.")


def _written(data: bytes, order: str, tags: dict[int, tuple[int, ...]]) -> bytes:
    """Return the data with a directory at its end that has these tags, all of type LONG."""
    place = len(data) + len(data) % 2
    entries, values, behind = b"", b"", place + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *(min(number, 2**32 - 1) for number in numbers))
        inside = packed
        if len(packed) > 4:
            inside = struct.pack(order + "I", behind + len(values))
            values += packed
        entries += struct.pack(order + "HHI", tag, 4, len(numbers)) + inside
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", place)
    directory = struct.pack(order + "H", len(tags)) + entries + bytes(4)
    return head + data[8:] + bytes(len(data) % 2) + directory + values
