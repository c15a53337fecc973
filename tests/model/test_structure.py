"""A small picture that would take minutes is refused at once, whatever makes it slow; honest ones are not."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from model.images import load
from model.structure import ImageError, is_plain
from tests.model.pictures import (
    HONEST,
    LIMIT,
    LITE0,
    PICTURES,
    TOO_SLOW,
    encoded,
    in_jpeg,
    segment,
    thousands_of_scans,
    webp_canvas,
)

SECONDS = 10.0  # unchecked, each takes longer or a large part of it, and with more bytes as long as one likes


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in TOO_SLOW.items()])
def test_a_slow_picture_is_refused_before_it_is_decoded(make: Callable[[], bytes]) -> None:
    data = make()
    assert len(data) < 3 * 2**20
    began = time.perf_counter()
    with pytest.raises(ImageError) as caught:
        load(data, LITE0, LIMIT)
    assert time.perf_counter() - began < SECONDS
    assert caught.value.code == "image_too_slow"
    assert any(number in caught.value.detail for number in ("100000", "100 ", "at most 100 "))


def test_a_refused_jpeg_says_how_many_scans_would_do() -> None:
    data = thousands_of_scans(scans=1000)
    with pytest.raises(ImageError, match=r"24000000 pixels and 1010 scans; at most 100 are decoded"):
        load(data, LITE0, LIMIT)


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in HONEST.items()])
def test_an_honest_picture_is_decoded(make: Callable[[], bytes]) -> None:
    data, began = make(), time.perf_counter()
    assert load(data, LITE0, LIMIT).shape == (3, 224, 224)
    assert time.perf_counter() - began < SECONDS


def test_a_webp_canvas_is_measured_before_memory_is_taken_for_it() -> None:
    with pytest.raises(ImageError, match=r"12000 x 12000 = 144000000 pixels; the limit is 40000000") as caught:
        load(webp_canvas(12_000, 12_000), LITE0, LIMIT)
    assert caught.value.code == "image_too_large"


@pytest.mark.parametrize("file", sorted(PICTURES.glob("*.jpg")), ids=lambda file: file.stem)
def test_photographs_are_plain(file: Path) -> None:
    with Image.open(file) as opened:
        exif = Image.Exif()
        exif[274] = 6
        assert is_plain(encoded(opened.convert("RGB"), "JPEG", exif=exif, icc_profile=bytes(3000)))
        assert is_plain(encoded(opened.convert("L"), "JPEG"))
        assert is_plain(encoded(opened.convert("CMYK"), "JPEG", restart_marker_blocks=1))


def not_plain() -> dict[str, bytes]:
    picture = Image.new("RGB", (64, 64))
    plain = encoded(picture, "JPEG")
    scan = plain.index(b"\xff\xda")
    return {
        "progressive": encoded(picture, "JPEG", progressive=True),
        "arithmetic": plain.replace(b"\xff\xc0", b"\xff\xc9", 1),
        "scan of one of three layers": plain[: scan + 4] + b"\1" + plain[scan + 5 :],
        "two frames": plain[:20] + plain[plain.index(b"\xff\xc0") : scan] + plain[20:],
        "stray byte": in_jpeg(b"\0"),
        "padding": in_jpeg(b"\xff"),
        "many segments": in_jpeg(segment(0xE3, b"") * 101),
        "narrow": encoded(Image.new("RGB", (60_000, 8)), "JPEG"),
        "no scan": plain[:scan],
        "cut in the header": plain[: scan - 5],
        "PNG": encoded(picture, "PNG"),
        "empty": b"",
    }


@pytest.mark.parametrize("name", not_plain())
def test_whatever_is_unusual_is_not_plain(name: str) -> None:
    assert not is_plain(not_plain()[name])
