"""``python -m benchmarks.photos FOLDER``: draw pictures of five flowers, in a folder for each.

The same seed draws the same pictures. They vary so much in place, size, light, colour and sharpness that a small
network learns most of them in a minute, but not all.
"""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from rich.console import Console
from rich.progress import Progress

Shape = tuple[NDArray[np.float64], float]
"""A part of a flower: its outline, ``(points, 2)`` with y downwards and the flower between -1 and 1; and its shade, by
which the colour of the petals is multiplied, or ``MIDDLE`` or ``STEM``, which have colours of their own."""

MIDDLE = -1.0
STEM = -2.0
UNUSUAL = 0.1
"""Standard deviation of the colours from those that a flower has most often."""
SIZES = (200, 600)
"""Least and most pixels of a side."""


def _petal(angle: float, length: float, width: float, point: float = 1.0) -> NDArray[np.float64]:
    """A petal of this ``length`` from the centre; an ``angle`` of 0 is up, and a high ``point`` makes it pointed."""
    along = np.linspace(0, 1, 14)
    half = width * np.sin(np.pi * along ** (1 / point)) ** (0.6 if point <= 1 else 1.0)
    edge = length * along
    across, up = np.concatenate([half, -half[::-1]]), np.concatenate([edge, edge[::-1]])
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack([across * cos + up * sin, across * sin - up * cos], axis=1)


def _disc(radius: float, x: float = 0.0, y: float = 0.0) -> NDArray[np.float64]:
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1)


def _stem() -> NDArray[np.float64]:
    return np.array([(-0.04, 0.2), (0.04, 0.2), (0.06, 1.6), (-0.02, 1.6)])


def _rose(rng: np.random.Generator) -> list[Shape]:
    shapes = []
    for ring, size in enumerate((0.95, 0.72, 0.52, 0.34, 0.18)):
        count, turn = 6 - ring // 2, rng.uniform(0, 6)
        for number in range(count):
            shade = 1 - 0.13 * ring - 0.1 * (number % 2)
            shapes.append((_petal(turn + 2 * np.pi * number / count, size, size * 0.5, 0.6), shade))
    return shapes


def _daisy(rng: np.random.Generator) -> list[Shape]:
    count = int(rng.integers(11, 20))
    width = rng.uniform(0.07, 0.12)
    petals = [
        (_petal(2 * np.pi * number / count, rng.uniform(0.82, 1), width), 1 - 0.15 * (number % 2))
        for number in range(count)
    ]
    return [*petals, (_disc(rng.uniform(0.2, 0.32)), MIDDLE)]


def _tulip(rng: np.random.Generator) -> list[Shape]:
    lean = rng.uniform(0.18, 0.34)
    petals = [(-lean, 0.8), (lean, 0.86), (0.0, 1.0)]
    cup = [(_petal(angle, 1.3, 0.4, 0.8) + np.array((0, 0.6)), shade) for angle, shade in petals]
    return [(_stem(), STEM), *cup]


def _lotus(rng: np.random.Generator) -> list[Shape]:
    shapes: list[Shape] = []
    for count, spread, length, shade in ((7, 1.35, 1.2, 0.75), (6, 1.0, 1.0, 0.88), (3, 0.5, 0.8, 1.0)):
        angles = np.linspace(-spread, spread, count) + rng.normal(0, 0.05, count)
        shapes += [(_petal(angle, length, 0.2, 1.3) + np.array((0, 0.5)), shade) for angle in angles]
    return shapes


def _iris(rng: np.random.Generator) -> list[Shape]:
    shapes: list[Shape] = [(_stem(), STEM)]
    standing = np.array([-0.35, 0.35, 0.0]) + rng.normal(0, 0.06, 3)
    shapes += [(_petal(angle, 0.95, 0.24, 0.8), 0.8) for angle in standing]
    for angle in np.array([-2.0, 2.0, np.pi]) + rng.normal(0, 0.1, 3):
        shapes += [(_petal(angle, 1.0, 0.3, 0.7), 1.0), (_petal(angle, 0.6, 0.06), MIDDLE)]
    return shapes


@dataclass(frozen=True, slots=True)
class Flower:
    """How one flower is drawn; the colours (red, green and blue, 0 to 1) are those that it has most often."""

    shapes: Callable[[np.random.Generator], list[Shape]]
    petals: tuple[float, float, float]
    middle: tuple[float, float, float]


FLOWERS = {
    "Gänseblümchen": Flower(_daisy, (0.9, 0.9, 0.85), (0.95, 0.75, 0.2)),
    "iris": Flower(_iris, (0.5, 0.4, 0.85), (0.95, 0.85, 0.3)),
    "lotus 蓮": Flower(_lotus, (0.95, 0.65, 0.8), (0.9, 0.8, 0.3)),
    "rose": Flower(_rose, (0.85, 0.25, 0.3), (0.5, 0.1, 0.15)),
    "tulip": Flower(_tulip, (0.9, 0.6, 0.25), (0.9, 0.8, 0.3)),
}


def photo(name: str, number: int, seed: int = 0) -> bytes:
    """Return picture ``number`` of the flower ``name``, as a JPEG of 200 to 600 pixels a side."""
    rng = np.random.default_rng([seed, list(FLOWERS).index(name), number])
    longer = rng.integers(SIZES[0] * 4 // 3, SIZES[1] + 1)
    width, height = (int(side) for side in rng.permutation([longer, longer * rng.uniform(0.75, 1)]))
    image = _background(rng, width, height)
    draw = ImageDraw.Draw(image)
    _leaves(rng, draw, width, height, int(rng.integers(3, 12)))
    _flower(rng, draw, FLOWERS[name], width, height)
    _leaves(rng, draw, width, height, int(rng.integers(0, 4)))
    image = _taken(rng, image)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(30, 95)))
    return file.getvalue()


def _background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    coarse = rng.uniform(-1, 1, (int(rng.integers(3, 12)), int(rng.integers(3, 12)), 1))
    colours = (
        rng.uniform(0.2, 0.6) + rng.normal(0, 0.06, 3) + 0.2 * coarse + rng.normal(0, 0.04, (*coarse.shape[:2], 3))
    )
    colours = 255 * np.clip(colours, 0, 1)
    return Image.fromarray(colours.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)


def _leaves(rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: int, height: int, count: int) -> None:
    for _ in range(count):
        length = rng.uniform(0.15, 0.5) * min(width, height)
        outline = length * _petal(rng.uniform(0, 2 * np.pi), 1, rng.uniform(0.03, 0.22), rng.uniform(0.7, 1.4))
        middle = rng.uniform(0, 1, 2) * (width, height)
        draw.polygon([*map(tuple, outline + middle)], fill=_colour(rng.uniform((0.1, 0.3, 0.1), (0.45, 0.65, 0.45))))


def _flower(rng: np.random.Generator, draw: ImageDraw.ImageDraw, flower: Flower, width: int, height: int) -> None:
    size = rng.uniform(0.2, 0.45) * min(width, height)
    turn = rng.normal(0, 0.35)
    turned = np.array([(math.cos(turn), -math.sin(turn)), (math.sin(turn), math.cos(turn))])
    seen = size * turned @ np.diag(rng.uniform(0.65, 1.15, 2)) @ np.array([(1, rng.normal(0, 0.15)), (0, 1)])
    middle = np.array([width, height]) * 0.5 + rng.uniform(-0.2, 0.2, 2) * (width, height)
    petals, centre, stem = (
        part + rng.normal(0, UNUSUAL, 3) for part in (flower.petals, flower.middle, (0.2, 0.45, 0.15))
    )
    for outline, shade in flower.shapes(rng):
        colour = {MIDDLE: centre, STEM: stem}.get(shade, petals * shade) + rng.normal(0, 0.03)
        line = _colour(colour * 0.75)
        draw.polygon([*map(tuple, outline @ seen.T + middle)], fill=_colour(colour), outline=line)


def _taken(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Let light, lens and sensor change the picture."""
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.45, 1.2))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.012) * min(image.size)))
    light = rng.uniform(0.55, 1.15) * rng.uniform(0.75, 1.15, 3)
    noise = rng.standard_normal((image.height, image.width, 3), np.float32) * rng.uniform(3, 25)
    return Image.fromarray(np.clip(np.asarray(image) * light + noise, 0, 255).astype(np.uint8))


def _colour(parts: NDArray[np.float64]) -> tuple[int, int, int]:
    red, green, blue = (int(255 * min(max(part, 0), 1)) for part in parts)
    return red, green, blue


def draw(folder: Path, count: int, seed: int = 0, told: Callable[[], None] = lambda: None) -> None:
    """Write ``count`` pictures of each flower into ``folder/FLOWER/``; ``told`` is called after each."""
    for name in FLOWERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (folder / name / f"{number:04}.jpg").write_bytes(photo(name, number, seed))
            told()


def main() -> None:
    """Draw the pictures and show how far it is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photos", description="Draw pictures of five flowers.")
    parser.add_argument("folder", type=Path, help="where the folders of the flowers are made")
    parser.add_argument("--count", type=int, default=120, help="pictures of each flower (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other pictures (default: %(default)s)")
    options = parser.parse_args()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("drawing", total=options.count * len(FLOWERS))
        draw(options.folder, options.count, options.seed, lambda: progress.advance(task))
    print(f"{options.count} pictures of each of {', '.join(FLOWERS)} are in {options.folder}")


if __name__ == "__main__":
    main()
