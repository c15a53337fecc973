"""The faithful way gives timm's own pixels, whatever the preprocessing and the picture; the fast way is near."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from timm.data import create_transform

from model.decoder import Decoder
from model.geometry import is_bounded, most_scaled, sides
from model.images import Preprocessing, fitted, load
from tests.model.pictures import LIMIT, LITE0, PICTURES, encoded, png

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of transparency, which is dropped
WIDE = replace(LITE0, width=160, height=96, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
GREY = replace(WIDE, channels=1, mean=(0.3,), std=(0.2,))
MODES, INTERPOLATIONS = ("center", "squash", "border"), ("nearest", "bilinear", "bicubic", "lanczos")
TURN_BACK = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # by orientation, the transposition that stores it


def timms(data: bytes, how: Preprocessing, normalize: bool = True) -> NDArray[np.float32]:
    transform = create_transform(
        how.shape,
        crop_pct=how.crop_pct,
        crop_mode=how.crop_mode,
        interpolation=how.interpolation,
        mean=how.mean,
        std=how.std,
        normalize=normalize,
    )
    with Image.open(io.BytesIO(data)) as opened:
        picture = ImageOps.exif_transpose(opened)
    pixels: NDArray[np.float32] = transform(picture.convert("L" if how.channels == 1 else "RGB")).numpy()
    return pixels


def pixels(data: bytes, how: Preprocessing) -> NDArray[np.uint8]:
    """The pixels before they are normalised, in timm's shape."""
    return np.asarray(fitted(data, how, LIMIT)).reshape(how.height, how.width, how.channels).transpose(2, 0, 1)


@st.composite
def preprocessings(draw: st.DrawFn) -> Preprocessing:
    width, channels = draw(st.integers(1, 80)), draw(st.sampled_from([1, 3]))
    height = draw(st.one_of(st.just(width), st.integers(1, 80)))
    share = draw(st.sampled_from([0.875, 0.9, 0.95, 1.0]) | st.floats(0.2, 1.9))
    assume(min(width, height) >= share)
    return Preprocessing(
        width=width,
        height=height,
        channels=channels,
        crop_pct=share,
        crop_mode=draw(st.sampled_from(MODES)),
        interpolation=draw(st.sampled_from(INTERPOLATIONS)),
        mean=tuple(draw(st.floats(0, 1)) for _ in range(channels)),
        std=tuple(draw(st.floats(0.05, 1)) for _ in range(channels)),
    )


CONVERSIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "RGB": lambda picture: picture,
    "L": lambda picture: picture.convert("L"),
    "1": lambda picture: picture.convert("1"),
    "P": lambda picture: picture.quantize(64),
    "LA": lambda picture: picture.convert("LA"),
    "RGBA": lambda picture: Image.merge("RGBA", (*picture.split(), Image.linear_gradient("L").resize(picture.size))),
    "CMYK": lambda picture: picture.convert("CMYK"),
}
FORMS = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "L", "1", "P", "LA", "RGBA"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("P", "L"),
}


@st.composite
def encoded_pictures(draw: st.DrawFn, least: int = 1, most: int = 200, without: str = "") -> bytes:
    """Some part of a photograph, scaled, in some form and colours, and perhaps turned."""
    size = draw(st.integers(least, most)), draw(st.integers(least, most))
    with Image.open(PICTURES / draw(st.sampled_from(["cat.jpg", "rocket.jpg"]))) as opened:
        picture = opened.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    form = draw(st.sampled_from(sorted(FORMS)))
    picture = CONVERSIONS[draw(st.sampled_from(FORMS[form]).filter(lambda colours: colours != without))](picture)
    exif = Image.Exif()
    exif[274] = draw(st.integers(1, 8))
    options: dict[str, object] = {} if form == "GIF" else {"exif": exif}
    if picture.mode == "P" and form == "PNG" and draw(st.booleans()):
        options["transparency"] = draw(st.sampled_from([3, bytes(range(64))]))
    if form == "JPEG":
        options |= {"progressive": draw(st.booleans()), "subsampling": draw(st.sampled_from([0, 2])), "quality": 90}
    return encoded(picture, form, **options)


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=encoded_pictures(), how=preprocessings())
def test_the_faithful_way_gives_timms_own_pixels(data: bytes, how: Preprocessing) -> None:
    how = replace(how, faithful=True)
    try:
        theirs = timms(data, how)
    except ValueError:  # the picture is so narrow that timm scales it to no pixels at all
        assert load(data, how, LIMIT).shape == how.shape
    else:
        assert np.array_equal(pixels(data, how), timms(data, how, normalize=False))
        ours = load(data, how, LIMIT)
        assert ours.flags.c_contiguous
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=encoded_pictures(), how=preprocessings())
def test_the_fast_way_has_the_right_shape_and_range_for_every_picture(data: bytes, how: Preprocessing) -> None:
    picture = load(data, how, LIMIT)
    assert picture.shape == how.shape
    assert picture.dtype == np.float32
    assert picture.flags.c_contiguous
    darkest, brightest = ((np.array([[0], [1]]) - how.mean) / how.std)[..., None, None]
    assert ((picture >= darkest - 1e-4) & (picture <= brightest + 1e-4)).all()


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=encoded_pictures(least=60, most=900, without="1"),
    how=preprocessings(),
    width=st.integers(40, 120),
    height=st.integers(40, 120),
)
def test_the_fast_way_is_near_timms_pixels(data: bytes, how: Preprocessing, width: int, height: int) -> None:
    how = replace(how, width=width, height=height)
    difference = np.abs(pixels(data, how) - timms(data, how, normalize=False).astype(np.float32)).mean()
    assert difference < 4


@pytest.mark.parametrize("size", [(273, 233), (1030, 777)])
def test_a_draft_of_odd_size_is_not_shifted(cat: Image.Image, size: tuple[int, int]) -> None:
    how = replace(LITE0, width=32, height=32)
    data = encoded(cat.resize(size), "JPEG", quality=95)
    assert np.abs(pixels(data, how) - timms(data, how, normalize=False).astype(np.float32)).mean() < 2


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("how", [replace(each, crop_mode=mode) for each in (WIDE, GREY) for mode in MODES], ids=str)
def test_a_turned_picture_gives_the_pixels_of_the_upright_one(
    cat: Image.Image, how: Preprocessing, orientation: int, faithful: bool
) -> None:
    cat = cat.resize((303, 201))
    stored = cat.transpose(Image.Transpose(TURN_BACK[orientation])) if orientation > 1 else cat
    exif = Image.Exif()
    exif[274] = orientation
    how = replace(how, faithful=faithful)
    expected, turned = (pixels(data, how) for data in (encoded(cat, "PNG"), encoded(stored, "PNG", exif=exif)))
    difference = np.abs(expected.astype(int) - turned)
    assert difference.max() <= (0 if faithful else 2)


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("share", [1.0, 1.5])
def test_the_border_has_the_colour_of_the_mean(cat: Image.Image, share: float, faithful: bool) -> None:
    how = replace(WIDE, crop_mode="border", crop_pct=share, faithful=faithful)
    picture = pixels(encoded(cat.resize((100, 100)), "PNG"), how)
    scaled = round(96 / share)
    left, top = (160 - scaled) // 2, (96 - scaled) // 2
    framed = np.ones((96, 160), bool)
    framed[top : top + scaled, left : left + scaled] = False
    assert np.unique(picture[:, framed], axis=1).T.tolist() == [[round(255 * mean) for mean in how.mean]]
    grey = pixels(encoded(cat.resize((100, 100)), "PNG"), replace(GREY, crop_mode="border", faithful=faithful))
    assert grey[0, 0, 0] == round(255 * 0.3)


@pytest.mark.parametrize("faithful", [False, True])
def test_a_picture_that_is_smaller_than_the_crop_is_framed_in_black(cat: Image.Image, faithful: bool) -> None:
    how = replace(LITE0, width=100, height=100, crop_pct=2.0, faithful=faithful)
    picture = pixels(encoded(cat.resize((80, 80)), "PNG"), how)
    assert not picture[:, :25].any()
    assert not picture[:, 75:].any()
    assert picture[:, 25:75, 25:75].any(axis=(1, 2)).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 20_000), (20_000, 1), (65_535, 3)])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("faithful", [False, True])
def test_tiny_and_narrow_pictures(size: tuple[int, int], mode: str, faithful: bool) -> None:
    data = encoded(Image.new("RGB", size, (255, 0, 0)), "PNG")
    for interpolation in INTERPOLATIONS:
        for each in (WIDE, GREY, replace(LITE0, width=1, height=3, crop_pct=1.0)):
            how = replace(each, crop_mode=mode, interpolation=interpolation, faithful=faithful)
            picture = pixels(data, how)
            assert picture.shape == how.shape
            expected = [76] if how.channels == 1 else [255, 0, 0]
            assert picture[:, how.height // 2, how.width // 2].tolist() == expected or mode == "border"


@cache
def needle(height: int) -> bytes:
    """A grey picture one pixel wide, black above and white below."""
    rows = b"\0\0" * (height // 2) + b"\0\xff" * (height - height // 2)
    return png(1, height, colour=0, rows=zlib.compress(rows, 1))


@pytest.mark.parametrize(
    ("mode", "way"),
    [(mode, way) for mode in MODES for way in ("fast", "faithful")] + [("squash", "nearest")],
)
def test_of_a_needle_that_timm_would_make_huge_only_the_input_is_computed(mode: str, way: str) -> None:
    """timm would make 256 x 6,144,000,000 pixels of it, which is 6 TB; squashed, 22 GB on the way."""
    interpolation = "nearest" if way == "nearest" else "bicubic"
    how = replace(LITE0, crop_mode=mode, interpolation=interpolation, faithful=way == "faithful")
    with closing(Decoder(how, LIMIT, 20)) as decoder:  # which has room for the picture, and for what is bounded
        picture = decoder.load(needle(24_000_000))
    assert picture.shape == how.shape
    if how.crop_mode == "squash":
        assert picture[:, 0].max() < -0.9
        assert picture[:, -1].min() > 0.9


def test_what_is_computed_of_a_scaled_picture_is_bounded() -> None:
    for how in (LITE0, WIDE, replace(LITE0, width=4096, height=4096)):
        for crop_mode in MODES:
            how = replace(how, crop_mode=crop_mode)
            assert is_bounded(3000, *sides(4000, 3000, how), how), "a photograph is prepared by timm's own steps"
            if crop_mode != "border":
                assert not is_bounded(24_000_000, *sides(1, 24_000_000, how), how)
        assert most_scaled(how) <= max(4_200_000, 8 * how.width * how.height)
