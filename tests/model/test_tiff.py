"""AVIF, TIFF and BMP become the same picture as a PNG, and what is not taken of them is refused before it is decoded.

How it could break: previews, pages or tags reach a decoder; strips that share their bytes are unpacked again and again;
a tile is much larger than its picture; the orientation is applied twice; a decoder lacks memory and says so badly.
"""

from __future__ import annotations

import struct
import time
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from model.decoder import Decoder
from model.images import ImageError, load
from model.stripping import stripped
from tests.model.pictures import LIMIT, LITE0, PICTURES, encoded

with Image.open(PICTURES / "cat.jpg") as opened:
    CAT = opened.convert("RGB").resize((90, 60))


def tiff(tags: dict[int, tuple[int, ...]], data: bytes = b"", order: str = "<") -> bytes:
    """A TIFF of these tags, all of type LONG; its data begin at byte 8."""
    behind = 8 + len(data) + 2 + 12 * len(tags) + 4
    entries = values = b""
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        inside = packed if len(packed) == 4 else struct.pack(order + "I", behind + len(values))
        values += packed if len(packed) > 4 else b""
        entries += struct.pack(order + "HHI", tag, 4, len(numbers)) + inside
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    return head + data + struct.pack(order + "H", len(tags)) + entries + bytes(4) + values


GREY: dict[int, tuple[int, ...]] = {
    256: (4,),
    257: (2,),
    258: (8,),
    259: (1,),
    262: (1,),
    273: (8,),
    277: (1,),
    278: (2,),
    279: (8,),
}


def refused(data: bytes) -> ImageError:
    began = time.perf_counter()
    with pytest.raises(ImageError) as caught:
        load(data, LITE0, LIMIT)
    assert time.perf_counter() - began < 1
    return caught.value


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "I", "F"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"])
def test_a_tiff_is_the_picture_that_a_png_is(mode: str, compression: str | None) -> None:
    picture = CAT.quantize(256) if mode == "P" else CAT.convert("L" if mode in ("I;16", "I", "F") else mode)
    stored = picture.convert(mode) if mode in ("I", "F") else picture
    if mode == "I;16":
        stored = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    data = encoded(stored, "TIFF", **({"compression": compression} if compression else {}))
    wanted = load(encoded(picture.convert("RGB") if mode == "CMYK" else picture, "PNG"), LITE0, LIMIT)
    assert np.abs(load(data, LITE0, LIMIT) - wanted).mean() * 127.5 < 1


def test_every_order_of_bytes_and_pages_and_big_tiff() -> None:
    wanted = load(encoded(CAT, "PNG"), LITE0, LIMIT)
    for options in ({"big_tiff": True}, {"save_all": True, "append_images": [CAT.rotate(180)]}, {"tiffinfo": {278: 7}}):
        assert np.array_equal(load(encoded(CAT, "TIFF", **options), LITE0, LIMIT), wanted)
    for order in "<>":
        assert load(tiff(GREY, bytes(range(0, 160, 20)), order), LITE0, LIMIT).shape == (3, 224, 224)


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("form", ["TIFF", "AVIF"])
def test_the_orientation_is_applied_once(turned: int, form: str) -> None:
    def exif() -> Image.Exif:  # Pillow takes the tag out of the EXIF that it saves
        made = Image.Exif()
        made[0x0112] = turned
        return made

    seen = load(encoded(CAT, form, exif=exif(), **({"quality": 95} if form == "AVIF" else {})), LITE0, LIMIT)
    wanted = load(encoded(CAT, "PNG", exif=exif()), LITE0, LIMIT)
    assert np.abs(seen - wanted).mean() * 127.5 < 4


def test_exif_of_an_avif_reaches_no_decoder() -> None:
    exif = Image.Exif()
    exif[0x010F] = "camera"
    data = encoded(CAT, "AVIF", exif=exif)
    broken = data.replace(b"MM\0*\0\0\0\x08", b"MM\0*\xff\xff\xff\xff")
    assert data != broken
    assert np.array_equal(load(broken, LITE0, LIMIT), load(data, LITE0, LIMIT))


def test_a_tiff_reaches_a_decoder_with_known_tags_only() -> None:
    exif = Image.Exif()
    exif[0x010F] = "camera"
    exif.get_ifd(0x8769)[0x9003] = "2026"
    data = encoded(CAT, "TIFF", exif=exif, icc_profile=bytes(300), description="cat", dpi=(72, 72))
    bare = stripped(data).data
    (directory,) = struct.unpack_from("<I", bare, 4)
    (count,) = struct.unpack_from("<H", bare, directory)
    tags = {struct.unpack_from("<H", bare, directory + 2 + 12 * number)[0] for number in range(count)}
    assert tags <= {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 338, 339}


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (encoded(CAT, "TIFF", compression="jpeg"), "image_unsupported", "compressed as JPEG"),
        (encoded(CAT.convert("1"), "TIFF", compression="group4"), "image_unsupported", "compressed as fax"),
        (tiff(GREY | {259: (34925,)}), "image_unsupported", "compressed as LZMA"),
        (tiff(GREY | {259: (999,)}), "image_unsupported", "compressed as number 999"),
        (tiff(GREY | {262: (32803,)}), "image_unsupported", "raw picture of a camera"),
        (tiff(GREY | {50706: (1,)}), "image_unsupported", "raw picture of a camera"),
        (tiff(GREY | {254: (1,)}), "image_unsupported", "raw picture of a camera"),
        (tiff(GREY | {262: (8,)}), "image_unsupported", "colours of kind 8"),
        (tiff(GREY | {256: (60_000,), 257: (60_000,)}), "image_too_large", "40000000"),
        (tiff(GREY | {322: (60_000,), 323: (60_000,)}), "image_broken", "60000 x 60000"),
        (tiff(GREY | {273: (8,) * 100_001}), "image_too_slow", "100001"),
        (tiff(GREY | {273: (8,) * 900, 279: (9_000,) * 900}, bytes(9_000)), "image_too_slow", "would read"),
        (tiff({256: (4,)}), "image_broken", "how large"),
        (b"II*\0\xff\xff\xff\xff", "image_truncated", "after 8 bytes"),
        (encoded(CAT, "TIFF")[:5000], "image_truncated", ""),
        (b"BM" + bytes(12) + b"\x28" + bytes(15) + b"\1" + bytes(99), "image_unsupported", "compressed BMP"),
        (encoded(CAT, "BMP")[:5000], "image_truncated", ""),
        (
            encoded(CAT, "BMP").replace(struct.pack("<ii", 90, 60), struct.pack("<ii", 60_000, 60_000)),
            "image_too_large",
            "",
        ),
        (encoded(CAT, "AVIF")[:500], "image_broken", ""),
    ],
)
def test_what_is_not_taken_is_refused_at_once(data: bytes, code: str, says: str) -> None:
    error = refused(data)
    assert error.code == code
    assert says in error.detail


def test_strips_that_unpack_to_more_than_the_picture_take_no_memory() -> None:
    bomb = zlib.compress(bytes(100_000_000), 9)
    data = tiff(GREY | {259: (8,), 279: (len(bomb),)}, bomb)
    assert load(data, LITE0, LIMIT).max() == -1


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_avif_of_the_largest_size_fits_into_the_memory_of_a_decoder(mode: str) -> None:
    large = Image.new(mode, (2000, 1500), (9, 90, 190, 100)[: len(mode)])
    data = encoded(large, "AVIF", speed=10)
    for how in (LITE0, replace(LITE0, faithful=True, background=(255, 255, 255))):
        decoder = Decoder(how, 3_000_000, 20)
        try:
            assert decoder.load(data).shape == (3, 224, 224)
        finally:
            decoder.close()
