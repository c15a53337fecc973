"""Network inputs made from the committed pictures, to calibrate and check a build; they are the same every time."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images import Preprocessing, normalise

PICTURES = Path(__file__).parent / "pictures"


def calibration(how: Preprocessing, per_picture: int = 6) -> NDArray[np.float32]:
    """Return varied crops of the left half of every picture, shape ``(n, channels, height, width)``."""
    return _crops(how, per_picture, (0.0, 0.5))


def held_out(how: Preprocessing, per_picture: int = 12) -> NDArray[np.float32]:
    """Return crops like those of ``calibration``, but of the right half of every picture, which it never sees."""
    return _crops(how, per_picture, (0.5, 1.0))


def _crops(how: Preprocessing, per_picture: int, across: tuple[float, float]) -> NDArray[np.float32]:
    random = np.random.default_rng(20)  # a fixed seed, and sorted files: every build sees the same crops
    made = []
    for file in sorted(PICTURES.glob("*.jpg")):
        with Image.open(file) as opened:
            left, right = (int(opened.width * share) for share in across)
            part = opened.convert("RGB").crop((left, 0, right, opened.height))
        made += [_vary(part, how, random) for _ in range(per_picture)]
    return np.stack(made)


def _vary(picture: Image.Image, how: Preprocessing, random: np.random.Generator) -> NDArray[np.float32]:
    """Cut a square of 50 to 100 % of the short side, perhaps mirrored, a little changed in light, contrast and tint."""
    side = int(min(picture.size) * random.uniform(0.5, 1))
    left, top = (int(random.integers(0, whole - side + 1)) for whole in picture.size)
    cut = picture.resize((how.width, how.height), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    if random.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(cut) * random.uniform(0.7, 1.3) * random.uniform(0.9, 1.1, 3) + random.uniform(-20, 20)
    return normalise(pixels.clip(0, 255).astype(np.uint8), how)
