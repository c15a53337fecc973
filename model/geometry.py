"""Where the network's input lies in a picture: pure numbers, with the rounding of timm's evaluation transform."""

import math
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Preprocessing", "Side", "is_bounded", "most_scaled", "sides", "sides_as_it_lies"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How pictures are prepared for a model."""

    width: int
    """Width of the input, in pixels."""
    height: int
    """Height of the input, in pixels."""
    channels: int
    """3 (red, green, blue) or 1 (grey)."""
    crop_pct: float
    """The input's share of the size to which a picture is scaled before it is cropped; above 0."""
    crop_mode: str
    """``center``: the input lies inside the scaled picture; ``squash``: both sides are scaled on their own; ``border``:
    the scaled picture lies inside the input, with a border in the colour of the mean."""
    interpolation: str
    """``nearest``, ``bilinear``, ``bicubic`` or ``lanczos``."""
    mean: tuple[float, ...]
    """One number a channel, subtracted after scaling to 0..1."""
    std: tuple[float, ...]
    """One number a channel, by which it is divided after the subtraction."""
    faithful: bool = False
    """Whether every step is timm's own, so that all pixels are timm's; otherwise the fast steps are taken."""

    background: tuple[int, int, int] | None = None
    """The colour, red, green and blue from 0 to 255, on which transparent pixels are laid. None drops transparency, as
    timm does: what a file says of the colour of transparent pixels, often black, is seen."""

    def fields(self) -> dict[str, Any]:
        """What records and digests of models say of it. They say nothing of ``background`` where there is none."""
        fields = asdict(self)
        if self.background is None:
            del fields["background"]
        return fields

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the array that a picture becomes."""
        return self.channels, self.height, self.width


@dataclass(frozen=True, slots=True)
class Side:
    """Width or height of a picture that is scaled, and of the part of it that lies in the input. All in pixels."""

    scaled: int
    """The length of the whole side after scaling; at least 1."""
    start: int
    """Where the part begins in the scaled picture."""
    length: int
    """The length of the part; less than the input's only if the scaled picture is smaller than the input."""
    place: int
    """Where the part begins in the input."""

    @property
    def mirrored(self) -> "Side":
        """The same part when the picture is mirrored."""
        return Side(self.scaled, self.scaled - self.start - self.length, self.length, self.place)


def sides(width: int, height: int, how: Preprocessing) -> tuple[Side, Side]:
    """Return how an upright picture of ``width`` x ``height`` pixels becomes the input: across, and down."""
    across, down = _scaled(width, height, how)
    return _side(across, how.width), _side(down, how.height)


def sides_as_it_lies(width: int, height: int, turned: int, how: Preprocessing) -> tuple[Side, Side]:
    """Return what ``sides`` tells of a picture that EXIF's orientation ``turned``, 1 to 8, makes upright.

    Both the size and the answer are those of the picture as it lies in the file, across and down.
    """
    if turned >= 5:
        down, across = sides(height, width, how)
    else:
        across, down = sides(width, height, how)
    return across.mirrored if turned in (2, 3, 7, 8) else across, down.mirrored if turned in (3, 4, 6, 7) else down


def most_scaled(how: Preprocessing) -> int:
    """Return how many pixels a scaled picture may have while all of it is computed; more only the part in the input."""
    return max(2**22, 8 * how.width * how.height)


def is_bounded(height: int, across: Side, down: Side, how: Preprocessing) -> bool:
    """Whether a picture of ``height`` may be scaled as a whole: first its width, then its height."""
    return across.scaled * max(height, down.scaled) <= most_scaled(how)


def _scaled(width: int, height: int, how: Preprocessing) -> tuple[int, int]:
    to_width, to_height = math.floor(how.width / how.crop_pct), math.floor(how.height / how.crop_pct)
    if how.crop_mode == "squash":
        return to_width, to_height
    if how.crop_mode == "center" and to_width == to_height:  # torchvision's Resize rounds the long side down
        short = min(width, height)
        return to_width * width // short, to_width * height // short
    # timm's ResizeKeepRatio rounds to the nearest; a very narrow picture would have no pixels left.
    choose = max if how.crop_mode == "border" else min
    ratio = choose(height / to_height, width / to_width)
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def _side(scaled: int, wanted: int) -> Side:
    if scaled < wanted:
        return Side(scaled, 0, scaled, (wanted - scaled) // 2)
    return Side(scaled, round((scaled - wanted) / 2), wanted, 0)
