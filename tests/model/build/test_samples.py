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
