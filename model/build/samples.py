"""Pictures that calibrate and check a build without pictures of the owner's; they are the same every time."""

import io
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from model.build.pictures import Picture

PICTURES = Path(__file__).parents[1] / "pictures"
SIDE = 320
"""Width and height of every picture, in pixels."""
QUALITY = 92
"""JPEG quality, 1 to 100."""


def calibration(per_picture: int = 6) -> list[Picture]:
    """Return varied crops of the left half of every committed picture, as JPEGs without a true class."""
    return list(_crops(PICTURES, per_picture, "left", (0.0, 0.5)))


def held_out(per_picture: int = 12) -> list[Picture]:
    """Return crops like those of ``calibration``, but of the right half of every picture, which it never sees."""
    return list(_crops(PICTURES, per_picture, "right", (0.5, 1.0)))


@lru_cache(maxsize=2)  # both kinds, for the builds of several models
def _crops(folder: Path, per_picture: int, half: str, across: tuple[float, float]) -> tuple[Picture, ...]:
    random = np.random.default_rng(20)  # a fixed seed, and sorted files: every build sees the same crops
    made = []
    for file in sorted(folder.glob("*.jpg")):
        with Image.open(file) as opened:
            left, right = (int(opened.width * share) for share in across)
            part = opened.convert("RGB").crop((left, 0, right, opened.height))
        part.info.clear()  # otherwise the crops get its colour profile and comment
        for number in range(per_picture):
            out = io.BytesIO()
            _vary(part, random).save(out, "JPEG", quality=QUALITY)
            made.append(Picture(f"{file.stem}, {half} half, crop {number}", out.getvalue(), None))
    return tuple(made)


def _vary(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """Cut a square of 50 to 100 % of the short side, perhaps mirrored, a little changed in light, contrast and tint."""
    side = int(min(picture.size) * random.uniform(0.5, 1))
    left, top = (int(random.integers(0, whole - side + 1)) for whole in picture.size)
    cut = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    if random.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # What the 256 values of each channel become, looked up, is the same as computing each pixel, and ten times as fast.
    values = np.arange(256) * random.uniform(0.7, 1.3) * random.uniform(0.9, 1.1, (3, 1)) + random.uniform(-20, 20)
    return cut.point(values.clip(0, 255).astype(np.uint8).ravel().tolist())
