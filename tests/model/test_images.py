"""Pictures of every accepted kind become the same array. Everything else quickly becomes an ImageError."""

import io
import itertools
import resource
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform

from model.images import ImageError, Preprocessing, load
from tests.model.pictures import LIMIT, LITE0, PICTURES, encoded, png

LITE2 = Preprocessing(
    width=260,
    height=260,
    channels=3,
    crop_mode="center",
    crop_pct=0.89,
    interpolation="bicubic",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
IMAGENET = Preprocessing(
    width=160,
    height=160,
    channels=3,
    crop_mode="center",
    crop_pct=0.95,
    interpolation="bilinear",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


def black_rows(width: int, height: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 + 3 * width)) for _ in range(height)) + packer.flush()


def error(data: bytes, max_pixels: int = LIMIT) -> ImageError:
    with pytest.raises(ImageError) as caught:
        load(data, LITE0, max_pixels)
    assert caught.value.detail.endswith(".")
    return caught.value


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference in grey levels of 0..255."""
    return float(np.abs(one - other).mean() * 127.5)


@pytest.mark.parametrize("how", [LITE0, LITE2, IMAGENET], ids=["lite0", "lite2", "imagenet"])
@pytest.mark.parametrize("file", sorted(PICTURES.glob("*.jpg")), ids=lambda file: file.stem)
@pytest.mark.parametrize("scale", [1, 3])
def test_pixels_are_close_to_those_of_timms_transform(file: Path, how: Preprocessing, scale: int) -> None:
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    data = encoded(picture.resize((picture.width * scale, picture.height * scale)), "JPEG", quality=95)
    theirs = create_transform(
        how.shape, crop_pct=how.crop_pct, interpolation=how.interpolation, mean=how.mean, std=how.std
    )(Image.open(io.BytesIO(data)).convert("RGB")).numpy()
    ours = load(data, how, LIMIT)
    assert ours.shape == how.shape
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    assert np.abs((ours - theirs) * np.reshape(how.std, (3, 1, 1))).mean() * 255 < 3.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_every_exif_orientation_gives_the_upright_picture(cat: Image.Image, orientation: int, form: str) -> None:
    turn_back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # by orientation, the transposition that stores it
    stored = cat.transpose(Image.Transpose(turn_back[orientation])) if orientation > 1 else cat
    exif = Image.Exif()
    exif[274] = orientation
    options = {"quality": 95} if form != "PNG" else {}
    upright = load(encoded(cat, form, **options), LITE0, LIMIT)
    assert distance(load(encoded(stored, form, exif=exif, **options), LITE0, LIMIT), upright) < 3


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_does_not_spoil_the_picture(cat: Image.Image) -> None:
    data = encoded(cat, "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert distance(load(data, LITE0, LIMIT), load(encoded(cat, "JPEG"), LITE0, LIMIT)) == 0


def test_colour_forms(cat: Image.Image) -> None:
    upright = load(encoded(cat, "PNG"), LITE0, LIMIT)
    grey = load(encoded(cat.convert("L"), "PNG"), LITE0, LIMIT)
    deep = Image.fromarray(np.asarray(cat.convert("L")).astype(np.uint16) * 257)
    palette = cat.quantize(256)
    turned = cat.transpose(Image.Transpose.ROTATE_180)
    colours = {
        "cmyk": encoded(cat.convert("CMYK"), "JPEG", quality=95),
        "palette": encoded(palette, "PNG"),
        "palette with one clear colour": encoded(palette, "PNG", transparency=3),
        "palette with alpha": encoded(palette, "PNG", transparency=bytes(range(256))),
        "alpha": encoded(Image.merge("RGBA", (*cat.split(), Image.linear_gradient("L").resize(cat.size))), "PNG"),
        "gif": encoded(palette, "GIF"),
        "animated gif": encoded(palette, "GIF", save_all=True, append_images=[turned.quantize(256)] * 3),
        "webp": encoded(cat, "WEBP", lossless=True),
        "animated webp": encoded(cat, "WEBP", lossless=True, save_all=True, append_images=[turned] * 3),
        "16-bit rgb": sixteen_bit_rgb(cat),
    }
    for name, data in colours.items():
        assert distance(load(data, LITE0, LIMIT), upright) < 4, name
    greys = {
        "16-bit grey": encoded(deep, "PNG"),
        "grey with alpha": encoded(cat.convert("LA"), "PNG"),
        "grey jpeg": encoded(cat.convert("L"), "JPEG", quality=95),
    }
    for name, data in greys.items():
        assert distance(load(data, LITE0, LIMIT), grey) < 2, name
    assert load(encoded(cat.convert("1"), "PNG"), LITE0, LIMIT).shape == (3, 224, 224)


def sixteen_bit_rgb(picture: Image.Image) -> bytes:
    wide = np.asarray(picture).astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    return png(*picture.size, depth=16, rows=zlib.compress(rows))


@pytest.mark.parametrize("size", [(1, 1), (1, 65535), (65535, 1), (3, 2), (223, 225)])
def test_any_shape_works(size: tuple[int, int]) -> None:
    picture = load(encoded(Image.new("RGB", size, (255, 0, 0)), "PNG"), LITE0, LIMIT)
    assert np.allclose(picture, np.reshape([1, -1, -1], (3, 1, 1)))


def test_truncated_and_broken_pictures(cat: Image.Image, cat_bytes: bytes) -> None:
    assert error(b"").code == "image_empty"
    assert error(b"\xff").code == "image_unsupported"
    assert error(b"<html><img src=cat.jpg></html>").code == "image_unsupported"
    for data in (cat_bytes, encoded(cat, "PNG"), encoded(cat.quantize(64), "GIF"), encoded(cat, "WEBP")):
        assert error(data[: len(data) // 2]).code == "image_truncated"
        assert str(len(data) // 2) in error(data[: len(data) // 2]).detail
        assert error(data[:12]).code in ("image_truncated", "image_broken")
    assert error(png(10, 10, rows=b"not zlib")).code == "image_broken"
    assert error(png(0, 0)).code == "image_broken"


def test_an_html_page_behind_a_jpeg_is_just_a_picture(cat_bytes: bytes) -> None:
    assert np.array_equal(load(cat_bytes + b"<script>alert(1)</script>", LITE0, LIMIT), load(cat_bytes, LITE0, LIMIT))


def renamed() -> dict[str, bytes]:
    picture = Image.new("RGB", (8, 8))
    header = "".join(
        line.ljust(80)
        for line in ("SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 99999", "NAXIS2  = 99999", "END")
    )
    forms = {form: encoded(picture, form) for form in ("EPS", "ICO", "PPM", "TGA", "JPEG2000", "PDF")}
    return {**forms, "FITS": header.ljust(2880).encode(), "PSD": b"8BPS\0\1" + bytes(60)}


@pytest.mark.parametrize("form", renamed())
def test_other_formats_are_refused_whatever_their_name(form: str) -> None:
    assert error(renamed()[form]).code == "image_unsupported"


def test_pixel_limit_says_its_number(cat_bytes: bytes) -> None:
    refused = error(cat_bytes, max_pixels=451 * 300 - 1)
    assert refused.code == "image_too_large"
    assert "451 x 300 = 135300" in refused.detail
    assert "135299" in refused.detail
    assert load(cat_bytes, LITE0, 451 * 300).shape == (3, 224, 224)


def test_bombs_are_refused_quickly_and_in_little_memory(cat: Image.Image) -> None:
    bombs = {
        "forged header": png(50_000, 50_000),
        "just over Pillow's warning": png(9_500, 9_500),
        "largest header": png(2**31 - 1, 2**31 - 1),
        "real": png(10_000, 10_000, rows=black_rows(10_000, 10_000)),
        "gif": encoded(Image.new("P", (65_000, 1)), "GIF").replace(
            struct.pack("<HH", 65_000, 1), struct.pack("<HH", 65_000, 65_000)
        ),
        "webp": webp_header(16_383, 16_383),
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    for name, data in bombs.items():
        refused = error(data)
        assert refused.code == "image_too_large", name
        assert "40000000" in refused.detail
    assert time.perf_counter() - started < 1
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 50


def webp_header(width: int, height: int) -> bytes:
    """A lossy WebP whose frame header claims this size."""
    small = bytearray(encoded(Image.new("RGB", (16, 16)), "WEBP"))
    at = small.index(b"\x9d\x01\x2a") + 3
    small[at : at + 4] = struct.pack("<HH", width, height)
    return bytes(small)


def test_ten_thousand_frames_cost_no_more_than_one() -> None:
    frames = (Image.new("P", (64, 64), number % 7) for number in itertools.count())
    data = encoded(next(frames), "GIF", save_all=True, append_images=list(itertools.islice(frames, 10_000)))
    started = time.perf_counter()
    assert load(data, LITE0, LIMIT).shape == (3, 224, 224)
    assert time.perf_counter() - started < 0.2


def seeds() -> list[bytes]:
    with Image.open(PICTURES / "cat.jpg") as opened:
        cat = opened.convert("RGB").resize((90, 60))
    exif = Image.Exif()
    exif[274] = 6
    return [
        encoded(cat, "JPEG", exif=exif),
        encoded(cat, "JPEG", progressive=True),
        encoded(cat.convert("CMYK"), "JPEG"),
        encoded(cat, "PNG", exif=exif),
        encoded(cat.quantize(16), "PNG", transparency=bytes(range(16))),
        encoded(Image.fromarray(np.asarray(cat.convert("L")).astype(np.uint16) * 257), "PNG"),
        encoded(cat.quantize(16), "GIF", save_all=True, append_images=[cat.quantize(8)]),
        encoded(cat, "WEBP", exif=exif),
        encoded(cat.convert("RGBA"), "WEBP", save_all=True, append_images=[cat.convert("RGBA")]),
    ]


SEEDS = seeds()


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A real file in which bytes are changed, cut off, removed or inserted, mostly near its start with the headers."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, min(len(data), draw(st.sampled_from([40, 400, 10_000])))))
        match draw(st.sampled_from(["change", "cut", "remove", "insert"])):
            case "change":
                data[at : at + 4] = draw(st.binary(min_size=1, max_size=4))
            case "cut":
                del data[max(at, 8) :]
            case "remove":
                del data[at : at + draw(st.integers(1, 30))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=30))
    return bytes(data)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow warns of odd metadata; the worker ignores it too
@settings(max_examples=2500, suppress_health_check=list(HealthCheck), database=None)
@given(data=mutants(), how=st.sampled_from([LITE0, replace(LITE0, width=64, crop_mode="squash", faithful=True)]))
def test_damaged_bytes_give_a_picture_or_an_image_error(data: bytes, how: Preprocessing) -> None:
    try:
        picture = load(data, how, 1_000_000)
    except ImageError as error:
        codes = (
            "image_empty",
            "image_unsupported",
            "image_too_large",
            "image_too_slow",
            "image_truncated",
            "image_broken",
        )
        assert error.code in codes
    else:
        assert picture.shape == how.shape
        assert np.isfinite(picture).all()


@settings(max_examples=300)
@given(data=st.binary(max_size=200))
def test_any_bytes_give_an_image_error(data: bytes) -> None:
    with pytest.raises(ImageError):
        load(data, LITE0, LIMIT)


def test_the_workers_path_imports_no_torch() -> None:
    code = "import sys, model.images, model.runtimes.onnx; print(*{name.split('.')[0] for name in sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert not {"torch", "timm", "torchvision", "onnx", "safetensors", "server", "click", "rich"} & set(out.split())
