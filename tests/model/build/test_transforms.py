"""What timm's configuration says becomes our preprocessing, and the reference is timm's own transform."""

from __future__ import annotations

import argparse
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image, ImageOps
from timm.data import create_transform, resolve_data_config

from model.build.errors import BuildError
from model.build.transforms import preprocessing, reference
from model.images import Preprocessing, load
from tests.model.pictures import LIMIT, LITE0, encoded


def network(name: str = "test_resnet", **arguments: Any) -> torch.nn.Module:
    made: torch.nn.Module = timm.create_model(name, **arguments)
    return made


@pytest.mark.parametrize(
    "name",
    ["test_resnet", "test_efficientnet", "mobilenetv3_small_050", "tf_efficientnet_lite0", "repvgg_a0", "fastvit_t8"],
)
def test_a_networks_own_configuration_is_taken(name: str) -> None:
    made = network(name)
    config, how = resolve_data_config({}, model=made), preprocessing(made, {}, {})
    assert how.shape == config["input_size"]
    assert (how.crop_pct, how.crop_mode) == (config["crop_pct"], config["crop_mode"])
    assert (how.interpolation, how.mean, how.std) == (config["interpolation"], config["mean"], config["std"])
    assert not how.faithful


def test_what_training_was_told_counts_more_and_what_is_given_counts_most() -> None:
    told = vars(argparse.Namespace(input_size=None, img_size=96, crop_pct=0.5, mean=[0.1, 0.2, 0.3], std=None))
    how = preprocessing(network(), told, {})
    assert (how.width, how.height, how.crop_pct, how.mean) == (96, 96, 0.5, (0.1, 0.2, 0.3))
    given = {"input_size": [3, 64, 128], "crop_pct": 1.25, "mean": [0.5], "std": (0.1, 0.2, 0.3)}
    how = preprocessing(network(), told, {**given, "crop_mode": "border", "interpolation": "lanczos"})
    assert how == Preprocessing(
        width=128,
        height=64,
        channels=3,
        crop_pct=1.25,
        crop_mode="border",
        interpolation="lanczos",
        mean=(0.5, 0.5, 0.5),
        std=(0.1, 0.2, 0.3),
    )


def test_a_grey_network_takes_the_average_of_a_sources_mean_and_std() -> None:
    grey = network("mobilenetv3_small_050", in_chans=1)
    assert grey.pretrained_cfg["input_size"][0] == 3
    how = preprocessing(grey, {}, {})
    assert how.channels == 1
    assert list(how.mean) == pytest.approx([(0.485 + 0.456 + 0.406) / 3])
    assert list(how.std) == pytest.approx([(0.229 + 0.224 + 0.225) / 3])
    assert preprocessing(grey, {}, {"mean": [0.3], "std": [0.2], "input_size": [1, 28, 28]}).shape == (1, 28, 28)


def test_random_interpolation_becomes_bilinear() -> None:
    assert preprocessing(network(), {"interpolation": "random"}, {}).interpolation == "bilinear"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mean": [0.1, 0.2]}, "mean has 2 numbers, but the network takes 3 channels"),
        ({"std": [0.1, 0.2, 0.3, 0.4]}, "std has 4 numbers, but the network takes 3 channels"),
        ({"std": [0.1, 0.0, 0.2]}, "std is 0.1, 0, 0.2; every number must be above 0"),
        ({"mean": [float("nan")] * 3}, "mean is nan, which is no number"),
        ({"crop_pct": 0}, "crop_pct is 0; for this input it must be 0.01 to 160"),
        ({"crop_pct": -0.5}, "crop_pct is -0.5"),
        ({"crop_pct": 161}, "crop_pct is 161; for this input it must be 0.01 to 160"),
        ({"crop_pct": 0.00001}, "crop_pct is 1e-05"),
        ({"interpolation": "box"}, "interpolation box is not supported; choose one of nearest, bilinear"),
        ({"crop_mode": "middle"}, "crop mode middle is not supported; choose one of center, squash, border"),
        ({"input_size": [3, 0, 224]}, "0 pixels high; it must have 1 to 4096"),
        ({"input_size": [3, 224, 4097]}, "4097 pixels wide; it must have 1 to 4096"),
        ({"input_size": [1, 224, 224]}, "said to have 1 channels, but the network takes 3"),
        ({"input_size": [224, 224]}, r"input size cannot be \[224, 224\]"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_the_numbers(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BuildError, match=message) as caught:
        preprocessing(network(), {}, given)
    assert str(caught.value).endswith(".")


def test_a_grey_network_is_told_of_too_many_means() -> None:
    with pytest.raises(BuildError, match="mean has 3 numbers, but the network takes 1 channels"):
        preprocessing(network(in_chans=1), {}, {"mean": [0.1, 0.2, 0.3]})


def test_other_numbers_of_channels_cannot_be_served() -> None:
    with pytest.raises(BuildError, match=r"takes pictures of 4 channels; only 3 .* and 1"):
        preprocessing(network(in_chans=4), {}, {})


def test_what_training_was_told_may_be_nonsense() -> None:
    with pytest.raises(BuildError, match="input size cannot be large"):
        preprocessing(network(), {"input_size": "large"}, {})
    with pytest.raises(BuildError, match="crop_pct is 'much', which is no number"):
        preprocessing(network(), {"crop_pct": "much"}, {})


GREY = replace(LITE0, width=80, height=48, channels=1, crop_mode="border", mean=(0.3,), std=(0.2,))


@pytest.mark.parametrize("how", [LITE0, GREY, replace(LITE0, width=100, crop_mode="squash")], ids=str)
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_reference_is_timms_own_transform(cat: Image.Image, how: Preprocessing, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(cat, "JPEG", exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB" if how.channels == 3 else "L")
    transform = create_transform(
        how.shape,
        crop_pct=how.crop_pct,
        crop_mode=how.crop_mode,
        interpolation=how.interpolation,
        mean=how.mean,
        std=how.std,
    )
    theirs = reference(data, how)
    assert theirs.shape == how.shape
    assert theirs.dtype == np.float32
    assert np.array_equal(theirs, transform(upright).numpy())
    np.testing.assert_allclose(load(data, replace(how, faithful=True), LIMIT), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["center", "border"])
def test_a_picture_that_timm_cannot_prepare_has_a_reference_too(mode: str) -> None:
    data = encoded(Image.new("RGB", (1, 60_000), (255, 0, 0)), "PNG")
    assert reference(data, replace(LITE0, crop_mode=mode)).shape == LITE0.shape


def test_a_background_is_a_colour_on_which_the_reference_and_the_input_lay_what_is_transparent() -> None:
    assert preprocessing(network(), {}, {}).background is None
    how = preprocessing(network(), {}, {"background": "white"})
    assert how.background == (255, 255, 255)
    clear = encoded(Image.merge("LA", [Image.new("L", (256, 256)), Image.linear_gradient("L")]), "PNG")
    theirs, ours = reference(clear, how), load(clear, replace(how, faithful=True), LIMIT)
    assert np.abs(theirs - ours).max() < 0.05
    assert theirs.mean() > reference(clear, replace(how, background=None)).mean() + 0.5
    with pytest.raises(BuildError, match="'whiite' is no colour"):
        preprocessing(network(), {}, {"background": "whiite"})
