"""Deep greys keep what they show, whichever part of their numbers they use; transparency is dropped or gets a colour.

How it could break: 12-bit pictures become black, or 16-bit ones white; a picture that is dark is stretched although its
file says what its numbers mean; fractions that are no numbers spoil a picture; a colour behind transparent pixels is
seen although a background is set; a model without a background gets another digest than before.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model.description import digest_of
from model.greys import shallow
from model.images import ImageError, load
from tests.model.pictures import LIMIT, LITE0, PICTURES, chunk, encoded, segment

with Image.open(PICTURES / "cat.jpg") as opened:
    CAT = opened.convert("RGB").resize((90, 60))
GREY = np.asarray(CAT.convert("L")).astype(np.uint16)
GREY[0, 0] = 255
WHITE = replace(LITE0, background=(255, 255, 255))


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference in grey levels of 0..255."""
    return float(np.abs(one - other).mean() * 127.5)


def with_bits(data: bytes, bits: int) -> bytes:
    return data[:33] + chunk(b"sBIT", bytes([bits])) + data[33:]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_greys_of_any_range_are_seen(bits: int) -> None:
    plain = load(encoded(Image.fromarray(GREY.astype(np.uint8)), "PNG"), LITE0, LIMIT)
    deep = encoded(Image.fromarray(GREY << (bits - 8)), "PNG")
    assert distance(load(deep, LITE0, LIMIT), plain) < 0.1
    assert distance(load(with_bits(deep, bits), LITE0, LIMIT), plain) < 0.1


def test_a_file_that_says_its_bits_is_believed() -> None:
    dark = encoded(Image.fromarray(GREY), "PNG")  # at most 255 of 65,535
    assert load(with_bits(dark, 16), LITE0, LIMIT).max() < -0.99
    assert load(with_bits(dark, 12), LITE0, LIMIT).max() < -0.85
    assert load(dark, LITE0, LIMIT).max() > 0.3
    # Greys of 12 bits that were scaled to 16, as the standard of PNG wants it.
    scaled = encoded(Image.fromarray(GREY << 8), "PNG")
    assert load(with_bits(scaled, 12), LITE0, LIMIT).max() > 0.3


@given(st.integers(0, 65535), st.integers(0, 65535), st.none() | st.integers(1, 16))
def test_no_number_wraps_around(low: int, high: int, bits: int | None) -> None:
    low, high = sorted((low, high))
    seen = np.asarray(shallow(Image.fromarray(np.array([[low, high]], np.uint16)), bits))
    assert seen[0, 0] <= seen[0, 1]
    assert seen[0, 1] >= high >> 8


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0, 1, 0.5], [0, 255, 128]),
        ([0, 255, 100], [0, 255, 100]),
        ([-1000, 1000, 0], [0, 255, 128]),
        ([0, 4000, 2000], [0, 255, 128]),
        ([float("nan"), 1, 0], [0, 255, 0]),
        ([float("inf"), 1, 0], [255, 255, 0]),
        ([float("nan")] * 3, [0, 0, 0]),
        ([7.0] * 3, [7, 7, 7]),
        ([1e30] * 3, [0, 0, 0]),
    ],
)
def test_fractions(numbers: list[float], expected: list[int]) -> None:
    assert np.asarray(shallow(Image.fromarray(np.array([numbers], np.float32)), None)).tolist() == [expected]


def test_whole_numbers_of_32_bits() -> None:
    for numbers, expected in (([-500, 500, 0], [0, 255, 128]), ([0, 4095, 2048], [0, 255, 128])):
        seen = shallow(Image.fromarray(np.array([numbers], np.int32)), None)
        assert np.asarray(seen).tolist() == [expected]


def logos() -> dict[str, bytes]:
    """A red square on transparent black, in every form that can be transparent."""
    logo = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    logo.paste((255, 0, 0, 255), (16, 16, 48, 48))
    palette = logo.convert("RGB").quantize(4)
    black = palette.getpixel((0, 0))
    rgb = encoded(logo.convert("RGB"), "PNG")
    return {
        "PNG": encoded(logo, "PNG"),
        "PNG with a palette": encoded(palette, "PNG", transparency=black),
        "PNG with a clear colour": rgb[:33] + chunk(b"tRNS", bytes(6)) + rgb[33:],
        "WEBP": encoded(logo, "WEBP", lossless=True, exact=True),
        "GIF": encoded(palette, "GIF", transparency=black),
    }


@pytest.mark.parametrize("name", logos())
@pytest.mark.parametrize("faithful", [False, True])
def test_a_transparent_logo_lies_on_the_background_of_the_model(name: str, faithful: bool) -> None:
    data = logos()[name]
    dropped = load(data, replace(LITE0, faithful=faithful), LIMIT)
    assert np.allclose(dropped[:, 0, 0], -1)
    laid = load(data, replace(WHITE, faithful=faithful), LIMIT)
    assert np.allclose(laid[:, 0, 0], 1)
    for seen in (dropped, laid):
        assert np.allclose(seen[:, 112, 112], [1, -1, -1], atol=0.02)
    blue = load(data, replace(WHITE, faithful=faithful, background=(0, 0, 255)), LIMIT)
    assert np.allclose(blue[:, 0, 0], [-1, -1, 1])


def test_a_background_changes_nothing_of_a_picture_without_transparency() -> None:
    for form in ("JPEG", "PNG", "WEBP", "GIF"):
        data = encoded(CAT, form)
        assert np.array_equal(load(data, WHITE, LIMIT), load(data, LITE0, LIMIT))


def test_only_a_background_changes_the_digest_of_a_model() -> None:
    def digest(how: object) -> str:
        return digest_of("lite", {}, ("a", "b"), how, ())  # type: ignore[arg-type]

    assert "background" not in LITE0.fields()
    assert digest(LITE0) == digest(replace(LITE0, background=None))
    assert len({digest(LITE0), digest(WHITE), digest(replace(LITE0, background=(0, 0, 0)))}) == 3


# 24 x 16 pixels, made by jpegtran -arithmetic: Pillow reads arithmetic coding and cannot write it.
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19i"
    "Z2hnPk1xeXBkeFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2Nj"
    "Y2NjY2NjY2P/yQARCAAQABgDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD1ncgMIFCeogBWSW+A1eXVHc59OdbK"
    "8bC0kA50ZyIP9iPGv1cM5K7qi7KDCXruqExNANFEdhvPrfPR045IoNvdRQO4IgWDoMLpa/Op7trWHP4EzSjjkwfeC/fn/9k="
)


def test_arithmetic_coding_is_read() -> None:
    with Image.open(PICTURES / "cat.jpg") as opened:
        same = encoded(opened.convert("RGB").resize((24, 16)), "JPEG", quality=50)
    assert distance(load(ARITHMETIC, LITE0, LIMIT), load(same, LITE0, LIMIT)) < 1


def frame(marker: int, bits: int = 8) -> bytes:
    plain = encoded(CAT, "JPEG")
    at = plain.index(b"\xff\xc0")
    return plain[: at + 1] + bytes([marker]) + plain[at + 2 : at + 4] + bytes([bits]) + plain[at + 5 :]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (frame(0xC1, 12), "JPEG of 12 bits for each colour"),
        (frame(0xC2, 12), "JPEG of 12 bits for each colour"),
        (frame(0xC3), "lossless JPEG"),
        (frame(0xC3, 16), "lossless JPEG"),
        (frame(0xC5), "hierarchical JPEG"),
        (b"\xff\xd8" + segment(0xF7, struct.pack(">BHHB", 8, 9, 9, 1) + bytes(3)), "JPEG-LS"),
    ],
)
def test_a_jpeg_that_nothing_here_reads_is_named(data: bytes, name: str) -> None:
    with pytest.raises(ImageError) as caught:
        load(data, LITE0, LIMIT)
    assert caught.value.code == "image_unsupported"
    assert name in caught.value.detail


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"subsampling": 0}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_is_taken_and_one_without_pixels_is_not(mode: str, options: dict[str, bool]) -> None:
    whole = encoded(CAT.convert(mode), "JPEG", **options)
    for end in (2, 1):
        assert np.array_equal(load(whole[:-end], LITE0, LIMIT), load(whole, LITE0, LIMIT))
    for length in range(whole.index(b"\xff\xda") + 14, len(whole) - 60, 13):
        assert refusal(whole[:length]) == "image_truncated"


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 3}], ids=str)
def test_a_jpeg_of_which_a_part_may_be_missing_unnoticed_needs_its_end(options: dict[str, bool]) -> None:
    whole = encoded(CAT, "JPEG", **options)
    for length in range(whole.index(b"\xff\xda") + 14, len(whole)):
        assert refusal(whole[:length]) == "image_truncated"


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        load(data, LITE0, LIMIT)
    return caught.value.code
