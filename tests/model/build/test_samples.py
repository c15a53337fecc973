"""The pictures that judge a build without pictures of the owner's are varied, and the same every time."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.build import samples
from model.images import load
from tests.model.pictures import LIMIT, LITE0


def test_samples_are_the_same_every_time_and_disjoint() -> None:
    calibration, held_out = samples.calibration(), samples.held_out()
    samples._crops.cache_clear()
    assert calibration == samples.calibration()
    assert held_out == samples.held_out()
    assert (len(calibration), len(held_out)) == (6 * 11, 12 * 11)
    everything = [picture.read() for picture in [*calibration, *held_out]]
    assert len(set(everything)) == len(everything)
    assert len({picture.name for picture in [*calibration, *held_out]}) == len(everything)
    assert {picture.truth for picture in [*calibration, *held_out]} == {None}


def test_calibration_sees_only_the_left_halves_and_the_check_only_the_right_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = Image.new("RGB", (800, 400), (200, 0, 0))
    halves.paste((0, 0, 200), (400, 0, 800, 400))
    halves.save(tmp_path / "halves.jpg", quality=95, subsampling=0)
    monkeypatch.setattr(samples, "PICTURES", tmp_path)
    for made, channel in ((samples.calibration(), 0), (samples.held_out(), 2)):
        for picture in made:
            with Image.open(io.BytesIO(picture.read())) as opened:
                # The middle, because the resize that made the crop looks some pixels beyond its edge.
                assert (np.asarray(opened)[20:-20, 20:-20].argmax(axis=2) == channel).all()


def test_samples_take_the_road_of_all_pictures() -> None:
    for picture in samples.calibration(1):
        assert load(picture.read(), LITE0, LIMIT).shape == LITE0.shape


def test_samples_change_nothing_else_than_they_say_and_carry_no_notes_of_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (800, 400), (100, 100, 100)).save(tmp_path / "grey.jpg", icc_profile=b"a profile", comment="said")
    monkeypatch.setattr(samples, "PICTURES", tmp_path)
    for picture in samples.held_out():
        with Image.open(io.BytesIO(picture.read())) as opened:
            assert not {"icc_profile", "comment"} & opened.info.keys()
            pixels = np.asarray(opened).reshape(-1, 3)
        (colour,) = np.unique(pixels, axis=0)
        # 70 to 130 % of the light, 90 to 110 % of it in each channel, and 20 more or less; two for JPEG's rounding.
        assert (colour >= 100 * 0.7 * 0.9 - 22).all() and (colour <= 100 * 1.3 * 1.1 + 22).all()
        assert len(set(colour.tolist())) > 1
