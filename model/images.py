"""Turn the bytes of a picture into the network's input: decode, crop, resize, rotate and normalise it with Pillow.

The geometry is that of timm's evaluation transform (short side to ``size / crop_pct``, then the central square), in
one resize call with a crop box, on a picture that libjpeg has already scaled down ("draft mode"). That takes a third of
the time and gives the same class. The bytes are untrusted: only four decoders may read them, the size that the header
tells and the structure are checked before any pixel is decoded, and every failure is an ``ImageError``.
"""

import io
import math
import struct
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from model.structure import ImageError, check, check_pixels, orientation

__all__ = ["ImageError", "Preprocessing", "load", "normalise", "square"]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")

_INTERPOLATION = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's readers of these four formats raise on damaged bytes; anything else would be a bug of ours.
_DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    AttributeError,
    struct.error,
    zlib.error,
)

# Pillow raises an error for pictures of more than twice its own limit of pixels, but only warns between once and twice.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
# These warn of damaged metadata, which does not matter here.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


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

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the array that a picture becomes."""
        return self.channels, self.height, self.width


def load(data: bytes, how: Preprocessing, max_pixels: int) -> NDArray[np.float32]:
    """Decode a JPEG, PNG, WEBP or GIF (first frame) into an array of shape ``(3, size, size)``.

    The array is float32, normalised and C-contiguous. The EXIF orientation is applied. Transparency is dropped, not
    blended, as ``Image.convert("RGB")`` and so timm's own data loader do it. 16-bit greys keep their upper byte.

    Peak memory per pixel of the picture: almost none for JPEG (progressive: 3 to 6 bytes), 1 to 6 bytes for PNG and GIF
    (with transparency: 8), 16 bytes for WEBP.

    Raises ``ImageError``, and nothing else, for bytes that are not such a picture, have more than ``max_pixels`` or
    would take very long.
    """
    return normalise(np.asarray(square(data, how, max_pixels)), how)


def normalise(picture: NDArray[np.uint8], how: Preprocessing) -> NDArray[np.float32]:
    """Turn RGB pixels of shape ``(size, size, 3)`` into the network's float32 input of shape ``(3, size, size)``."""
    pixels = picture.transpose(2, 0, 1)
    std = np.asarray(how.std, np.float32).reshape(3, 1, 1)
    mean = np.asarray(how.mean, np.float32).reshape(3, 1, 1)
    # (pixels / 255 - mean) / std in two passes; the array of its own is contiguous, which the transposed view is not.
    out = np.empty(pixels.shape, np.float32)
    np.multiply(pixels, 1 / (255 * std), out=out)
    out -= mean / std
    return out


def square(data: bytes, how: Preprocessing, max_pixels: int) -> Image.Image:
    """Decode the central square: an RGB picture of ``size`` x ``size`` pixels. Otherwise the same as ``load``."""
    if not data:
        raise ImageError("image_empty", "The picture has no bytes.")
    check(data, max_pixels)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            check_pixels(*picture.size, max_pixels)
            return _square(picture, how)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("image_too_large", f"The picture has more pixels than the limit of {max_pixels}.") from error
    except UnidentifiedImageError as error:
        if _has_known_start(data):
            raise ImageError("image_broken", "The picture's header cannot be read.") from error
        raise ImageError("image_unsupported", "The bytes are not a JPEG, PNG, WEBP or GIF picture.") from error
    except MemoryError as error:
        raise ImageError("image_too_large", "The picture needs more memory than there is.") from error
    except _DAMAGE as error:
        if "truncated" in str(error).lower() or _is_cut_webp(data):
            raise ImageError("image_truncated", f"The picture ends early, after {len(data)} bytes.") from error
        raise ImageError("image_broken", "The picture's data is damaged and cannot be decoded.") from error


def _square(picture: Image.Image, how: Preprocessing) -> Image.Image:
    """Cut the central square out of an opened picture, upright, RGB, ``size`` x ``size`` pixels."""
    width, height = picture.size
    # As in timm: the short side becomes `short`, the long side is rounded down, the crop's corner to the nearest pixel.
    short = math.floor(how.width / how.crop_pct)
    to_width, to_height = (short * side // min(width, height) for side in (width, height))
    left, top = (round((side - how.width) / 2) for side in (to_width, to_height))
    upright = _UPRIGHT.get(orientation(picture.info.get("exif")))
    if picture.format in ("JPEG", "MPO"):  # MPO: what Pillow calls a JPEG file that holds more pictures than one
        picture.draft(None, (to_width, to_height))
    # The draft may have fewer pixels than the header says, and the crop box is in the pixels of the draft.
    across, down = picture.width / to_width, picture.height / to_height
    box = (left * across, top * down, (left + how.width) * across, (top + how.width) * down)
    small = _resizable(picture).resize(
        (how.width, how.width), _INTERPOLATION[how.interpolation], box=box, reducing_gap=2.0
    )
    if upright is not None:  # the square is central, so it can as well be rotated when it is small
        small = small.transpose(upright)
    return small if small.mode == "RGB" else small.convert("RGB")


def _resizable(picture: Image.Image) -> Image.Image:
    """Decode a picture into a mode that Pillow can resize with a filter and without blending transparency."""
    if picture.mode in ("RGB", "L", "CMYK"):
        return picture
    if picture.mode.startswith("I"):  # 16-bit greys: convert() would clip them at 255
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    picture.load()
    picture.info.pop("transparency", None)
    return picture.convert("L" if picture.mode in ("1", "LA") else "RGB")


def _is_cut_webp(data: bytes) -> bool:
    """Whether a WEBP file has fewer bytes than its length field says. libwebp does not tell that from other damage."""
    return data.startswith(b"RIFF") and len(data) < 8 + int.from_bytes(data[4:8], "little")


def _has_known_start(data: bytes) -> bool:
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8")) or (
        data.startswith(b"RIFF") and data[8:12] == b"WEBP"
    )
