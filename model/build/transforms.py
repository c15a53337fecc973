"""timm's preprocessing: what a network wants, and the pixels that timm itself makes of a picture."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageColor
from timm.data import create_transform, resolve_data_config

from model.build.errors import BuildError
from model.geometry import is_bounded, sides
from model.images import FORMATS, MODES, Preprocessing, load, upright
from model.stripping import stripped

CROP_MODES = ("center", "squash", "border")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
MOST_SIDE = 4096
"""The longest side of an input, in pixels."""
LEAST_CROP_PCT = 0.01


def preprocessing(network: torch.nn.Module, data: Mapping[str, Any], given: Mapping[str, Any]) -> Preprocessing:
    """Return how pictures are prepared for ``network``, as timm's evaluation does it.

    ``data`` is what its training was told (the arguments of timm's ``train.py``), which counts more than the network's
    own configuration. ``given`` is what the owner says now (``mean``, ``std``, ``input_size`` as channels, height and
    width, ``crop_pct``, ``crop_mode``, ``interpolation``, ``background``), which counts most. Raises ``BuildError`` for
    what cannot be.
    """
    told = {key: value for key, value in {**data, **given}.items() if value is not None}
    config = _resolved(network, told)
    channels, height, width = config["input_size"]
    wanted = _channels(network, channels)
    if channels != wanted and "input_size" in given:
        raise BuildError(f"The input was said to have {channels} channels, but the network takes {wanted}.")
    _check_size(wanted, height, width)
    return Preprocessing(
        width=width,
        height=height,
        channels=wanted,
        crop_pct=_crop_pct(told.get("crop_pct", config["crop_pct"]), min(width, height)),
        crop_mode=_chosen("crop mode", config["crop_mode"], CROP_MODES),
        # timm's evaluation knows no random interpolation: training takes bilinear and bicubic in turn.
        interpolation=_chosen(
            "interpolation", str(config["interpolation"]).replace("random", "bilinear"), INTERPOLATIONS
        ),
        mean=_each_channel("mean", told.get("mean", config["mean"]), wanted, average="mean" not in given),
        std=_each_channel("std", told.get("std", config["std"]), wanted, average="std" not in given),
        background=_colour(given.get("background")),
    )


def reference(data: bytes, how: Preprocessing) -> NDArray[np.float32]:
    """Return the pixels that timm itself makes of an upright picture, of shape ``how.shape``.

    They are normalised, and float32. Of 16-bit greys timm makes almost all white, and so does this.

    A very narrow picture, which timm would scale to no pixels at all or to billions, gives the faithful pixels of
    ``model.images.load`` instead. Raises what Pillow raises for bytes that are not a picture.
    """
    bare = stripped(data)
    with Image.open(io.BytesIO(bare.data), formats=FORMATS) as opened:
        laid: Image.Image = opened
        if how.background is not None and opened.has_transparency_data:
            laid = Image.alpha_composite(Image.new("RGBA", opened.size, how.background), opened.convert("RGBA"))
        picture = upright(laid.convert(MODES[how.channels]), bare.turned or 1)
    if is_bounded(picture.height, *sides(*picture.size, how), how):
        transform = create_transform(
            how.shape,
            crop_pct=how.crop_pct,
            crop_mode=how.crop_mode,
            interpolation=how.interpolation,
            mean=how.mean,
            std=how.std,
        )
        try:
            return np.ascontiguousarray(transform(picture).numpy())
        except ValueError as error:
            if "must be > 0" not in str(error):  # what Pillow says of a picture without pixels
                raise
    return load(data, replace(how, faithful=True), picture.width * picture.height)


def _resolved(network: torch.nn.Module, told: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in told.items() if key not in ("mean", "std")}
    try:
        config: dict[str, Any] = resolve_data_config(plain, model=network)
        config["input_size"] = tuple(map(int, config["input_size"]))
    except (AssertionError, TypeError, ValueError) as error:
        raise BuildError(
            f"The input size cannot be {told.get('input_size', told.get('img_size'))}; say channels, height and width, "
            "for example --input-size 3 224 224."
        ) from error
    return config


def _channels(network: torch.nn.Module, otherwise: int) -> int:
    """Return how many channels the network's first convolution takes; timm's configuration always says 3."""
    convolutions = (module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    return next((convolution.in_channels for convolution in convolutions), otherwise)


def _check_size(channels: int, height: int, width: int) -> None:
    if channels not in MODES:
        raise BuildError(
            f"The network takes pictures of {channels} channels; only 3 (colour) and 1 (grey) can be served."
        )
    for side, name in ((height, "high"), (width, "wide")):
        if not 1 <= side <= MOST_SIDE:
            raise BuildError(f"The input would be {side} pixels {name}; it must have 1 to {MOST_SIDE}.")


def _crop_pct(value: Any, short: int) -> float:
    share = _number("crop_pct", value)
    if not LEAST_CROP_PCT <= share <= short:  # above, the scaled picture would have no pixels
        raise BuildError(f"crop_pct is {share:g}; for this input it must be {LEAST_CROP_PCT:g} to {short}.")
    return share


def _chosen(what: str, value: Any, choices: Sequence[str]) -> str:
    if value not in choices:
        raise BuildError(f"The {what} {value} is not supported; choose one of {', '.join(choices)}.")
    return str(value)


def _each_channel(what: str, values: Any, channels: int, *, average: bool) -> tuple[float, ...]:
    """Return a number for each channel; their average, as timm does it, if the source has three and the network one."""
    listed = values if isinstance(values, (list, tuple)) else [values]
    numbers = tuple(_number(what, value) for value in listed)
    if what == "std" and min(numbers, default=1.0) <= 0:
        raise BuildError(f"std is {', '.join(f'{number:g}' for number in numbers)}; every number must be above 0.")
    if len(numbers) == 1:
        return numbers * channels
    if len(numbers) == 3 and channels == 1 and average:
        return (sum(numbers) / 3,)
    if len(numbers) != channels:
        raise BuildError(f"{what} has {len(numbers)} numbers, but the network takes {channels} channels.")
    return numbers


def _colour(given: str | None) -> tuple[int, int, int] | None:
    if given is None:
        return None
    try:
        red, green, blue = ImageColor.getrgb(given)[:3]
    except ValueError as error:
        raise BuildError(
            f"The background {given!r} is no colour; say one as white, #ffffff or rgb(255, 255, 255)."
        ) from error
    return red, green, blue


def _number(what: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise BuildError(f"{what} is {value!r}, which is no number.")
    return number
