"""Make 8-bit greys of deeper ones. Many files of microscopes and scanners use only the low part of their numbers.

Whole numbers of 16 or 32 bits keep the upper 8 of the bits that they use: those that the file says, or 8, 10, 12, 14 or
16 (or more), whatever the largest number of the picture needs. Negative numbers and fractions are scaled from the
smallest to the largest of the picture; fractions between 0 and 1 from 0 to 1, and others up to 255 stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def is_deep(picture: Image.Image) -> bool:
    """Whether the picture has one number of more than 8 bits for each pixel."""
    return picture.mode.startswith("I") or picture.mode == "F"


def shallow(picture: Image.Image, bits: int | None) -> Image.Image:
    """Decode a picture of deep greys into one of 8 bits. ``bits`` is how many it uses, if the file says so."""
    deep = np.asarray(picture)
    if deep.dtype.kind == "f":
        return Image.fromarray(_of_fractions(deep))
    least, most = int(deep.min()), int(deep.max())
    if least < 0:
        return Image.fromarray(_stretched(deep.astype(np.float32), least, most))
    used = bits if bits is not None and most < 1 << bits else most.bit_length()
    return Image.fromarray((deep >> max(0, used + used % 2 - 8)).astype(np.uint8))


def _of_fractions(deep: NDArray[Any]) -> NDArray[np.uint8]:
    known = deep[np.isfinite(deep)]
    least, most = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    if least >= 0 and most <= 255:
        least, most = 0.0, 1.0 if most <= 1 else 255.0
    return _stretched(np.nan_to_num(deep, nan=least, posinf=most, neginf=least), least, most)


def _stretched(deep: NDArray[Any], least: float, most: float) -> NDArray[np.uint8]:
    scaled = (deep - np.float32(least)) * np.float32(255 / max(most - least, 1e-30))
    seen: NDArray[np.uint8] = np.clip(scaled + 0.5, 0, 255).astype(np.uint8)
    return seen
