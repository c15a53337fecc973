"""Turn the bytes of a picture into the network's input: decode, crop, resize, rotate and normalise it with Pillow.

The geometry is that of timm's evaluation transform. The fast way makes one resize call with a crop box, on a picture
that libjpeg has already scaled down ("draft mode"). That takes a third of the time, and the pixels are almost timm's.
The faithful way takes timm's own steps, and the pixels are timm's. The bytes are untrusted: only the decoders of the
formats that are taken may read them, the size that the header tells and the structure are checked before any pixel is
decoded, and every failure is an ``ImageError``.
"""

import io
import struct
import warnings
import zlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, UnidentifiedImageError

from model.formats import format_of, refusal
from model.geometry import Preprocessing, Side, is_bounded, sides, sides_as_it_lies
from model.greys import is_deep, shallow
from model.orientation import of_exif
from model.stripping import Bare, stripped
from model.structure import SCAN, ImageError, check, check_pixels, segments

__all__ = ["FORMATS", "MODES", "ImageError", "Preprocessing", "decodes_whole", "fitted", "load", "normalise", "upright"]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP")
"""What may be a picture, in the words of Pillow."""

_INTERPOLATION = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
MODES = {1: "L", 3: "RGB"}
"""What Pillow calls a picture of so many channels."""
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EOI = b"\xff\xd9"
_RESTARTS = 0xDD
# What a JPEG may go on with: bytes of pixels that look random, and the marker of the end.
_ENDS = tuple(bytes((number * step) % 251 for number in range(200)) + _EOI for step in (37, 101))
_DAMAGED = "The picture's data is damaged and cannot be decoded."
# What Pillow's readers of these formats raise on damaged bytes; anything else would be a bug of ours.
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

# A thread for each processor would take a stack of memory each, and processors of others.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
# Pillow raises an error for pictures of more than twice its own limit of pixels, but only warns between once and twice.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
# These warn of damaged metadata, which does not matter here.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def load(data: bytes, how: Preprocessing, max_pixels: int) -> NDArray[np.float32]:
    """Decode a picture of one of ``FORMATS`` (its first frame) into an array of shape ``how.shape``.

    The array is float32, normalised and C-contiguous. The picture is turned as its metadata says. Transparency is
    dropped, not blended, as ``Image.convert("RGB")`` and so timm's own data loader do it, unless ``how.background`` is
    set. Of deep greys ``model.greys`` tells what becomes; timm would make almost all of 16-bit greys white.

    If ``how.faithful``, all other pixels are timm's, unless timm would scale the picture to more than ``most_scaled``
    pixels first. Then only the part in the input is computed, and pixels may differ by a grey level or two.

    Peak memory per pixel of the picture: almost none for JPEG (progressive: 3 to 8 bytes), 1 to 6 bytes for PNG and GIF
    (with transparency: 8), 16 bytes for WEBP,
    up to 14 for AVIF, TIFF and BMP. Where ``decodes_whole``, 4 to 12 bytes for JPEG, and 4 bytes more than
    otherwise for the other formats.

    Raises ``ImageError``, and nothing else, for bytes that are not such a picture, have more than ``max_pixels`` or
    would take very long.
    """
    return normalise(np.asarray(fitted(data, how, max_pixels)), how)


def normalise(picture: NDArray[np.uint8], how: Preprocessing) -> NDArray[np.float32]:
    """Turn pixels, ``(height, width, channels)`` in any shape, into the network's float32 input of ``how.shape``."""
    pixels = picture.reshape(how.height, how.width, how.channels).transpose(2, 0, 1)
    std = np.asarray(how.std, np.float32).reshape(-1, 1, 1)
    mean = np.asarray(how.mean, np.float32).reshape(-1, 1, 1)
    # The array of its own is contiguous, which the transposed view is not.
    out = np.empty(pixels.shape, np.float32)
    if how.faithful:
        np.divide(pixels, np.float32(255), out=out)
        out -= mean
        out /= std
    else:  # the same in two passes
        np.multiply(pixels, 1 / (255 * std), out=out)
        out -= mean / std
    return out


def decodes_whole(how: Preprocessing) -> bool:
    """Whether all pixels of a JPEG are decoded. Otherwise few more than the input has, and it takes little memory."""
    return how.faithful or how.interpolation == "nearest"  # which shows single pixels, and a draft has none of them


def fitted(data: bytes, how: Preprocessing, max_pixels: int) -> Image.Image:
    """Decode the pixels of the input: an RGB or grey picture of its size. Otherwise the same as ``load``."""
    if not data:
        raise ImageError("image_empty", "The picture has no bytes.")
    if format_of(data) is None:
        raise ImageError("image_unsupported", refusal(data))
    check(data, max_pixels)
    try:
        return _with_or_without_end(stripped(data), how, max_pixels)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("image_too_large", f"The picture has more pixels than the limit of {max_pixels}.") from error
    except UnidentifiedImageError as error:
        raise ImageError("image_broken", "The picture's header cannot be read.") from error
    except (MemoryError, RuntimeError) as error:  # RuntimeError: of libavif
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise ImageError("image_broken", _DAMAGED) from error
        raise ImageError("image_too_large", "The picture needs more memory than there is.") from error
    except _DAMAGE as error:
        if "truncated" in str(error).lower() or _is_cut_webp(data):
            raise ImageError("image_truncated", f"The picture ends early, after {len(data)} bytes.") from error
        raise ImageError("image_broken", _DAMAGED) from error


def upright(picture: Image.Image, turned: int) -> Image.Image:
    """Turn a picture as EXIF's orientation ``turned``, 1 to 8, says."""
    return picture.transpose(_UPRIGHT[turned]) if turned > 1 else picture


def _with_or_without_end(bare: Bare, how: Preprocessing, max_pixels: int) -> Image.Image:
    """Decode the pixels of the input, also of a JPEG that lacks nothing but its end, as frames of webcams do."""
    try:
        return _input(bare, how, max_pixels)
    except OSError as error:
        if "truncated" not in str(error) or not bare.data.startswith(b"\xff\xd8"):
            raise
        one, other = (_luminance(bare.data + end) for end in _ENDS)
        if one is None or one != other:
            raise
        return _input(replace(bare, data=bare.data + _EOI), how, max_pixels)


def _luminance(data: bytes) -> bytes | None:
    """Decode a JPEG as small as libjpeg can. All its pixels are there if this does not depend on what comes next.

    Of a JPEG in several scans or with restart markers that cannot be told, and it is None: what is missing may begin
    where one of them would.
    """
    starts = {marker: start for marker, start, _ in segments(data)}
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        colours = data[starts[SCAN]] if SCAN in starts else 0
        if picture.info.get("progressive") or colours != len(picture.getbands()) or _RESTARTS in starts:
            return None
        picture.draft("L", (1, 1))
        return picture.tobytes()


def _input(bare: Bare, how: Preprocessing, max_pixels: int) -> Image.Image:
    with Image.open(io.BytesIO(bare.data), formats=FORMATS) as picture:
        check_pixels(*picture.size, max_pixels)
        if picture.format == "AVIF":  # whose boxes Pillow tells as EXIF
            bare = replace(bare, turned=of_exif(picture.info.get("exif", b"")))
        return _faithful_way(picture, bare, how) if decodes_whole(how) else _fast_way(picture, bare, how)


def _fast_way(picture: Image.Image, bare: Bare, how: Preprocessing) -> Image.Image:
    turned = bare.turned or 1
    size: tuple[float, float] = picture.size
    across, down = sides_as_it_lies(*picture.size, turned, how)
    if picture.format == "JPEG":
        draft = picture.draft("L" if how.channels == 1 else None, (across.scaled, down.scaled))
        if draft is not None:  # its last column and row may lie half outside the picture
            size = draft[1][2:]
    part = _part(_resizable(picture, bare, how), size, across, down, how)
    part = upright(part, turned)  # when it is small, which takes less time
    return _framed(part, across, down, how) if turned < 5 else _framed(part, down, across, how)


def _faithful_way(picture: Image.Image, bare: Bare, how: Preprocessing) -> Image.Image:
    turned, mode = bare.turned or 1, MODES[how.channels]
    whole = _resizable(picture, bare, how)
    # A grey picture may become coloured when it is small: each of its channels would be scaled in the same way.
    whole = upright(whole if whole.mode in ("L", mode) else whole.convert(mode), turned)
    across, down = sides(*whole.size, how)
    if is_bounded(whole.height, across, down, how):
        scaled = whole.resize((across.scaled, down.scaled), _INTERPOLATION[how.interpolation])
        box = (across.start, down.start, across.start + across.length, down.start + down.length)
        part = scaled.crop(box)
    else:
        part = _part(whole, whole.size, across, down, how)
    return _framed(part, across, down, how)


def _part(picture: Image.Image, size: tuple[float, float], across: Side, down: Side, how: Preprocessing) -> Image.Image:
    """Scale the part of a picture of ``size`` that lies in the input, and nothing else, in few steps."""
    per_x, per_y = size[0] / across.scaled, size[1] / down.scaled
    left, top = across.start * per_x, down.start * per_y
    right, bottom = (across.start + across.length) * per_x, (down.start + down.length) * per_y
    part, box = (across.length, down.length), (left, top, right, bottom)
    return picture.resize(part, _INTERPOLATION[how.interpolation], box=box, reducing_gap=2.0)


def _framed(part: Image.Image, across: Side, down: Side, how: Preprocessing) -> Image.Image:
    """Give the part its channels, and lay it where it belongs if it is smaller than the input."""
    if part.mode != MODES[how.channels]:
        part = part.convert(MODES[how.channels])
    if part.size == (how.width, how.height):
        return part
    colour = tuple(round(255 * mean) for mean in how.mean) if how.crop_mode == "border" else 0
    framed = Image.new(part.mode, (how.width, how.height), colour)
    framed.paste(part, (across.place, down.place))
    return framed


def _resizable(picture: Image.Image, bare: Bare, how: Preprocessing) -> Image.Image:
    """Decode a picture into a mode that Pillow can resize with a filter, and without transparency."""
    if is_deep(picture):  # convert() would clip them at 255
        return shallow(picture, bare.bits)
    if how.background is not None and picture.has_transparency_data:
        return _laid(picture, how.background)
    if picture.mode in ("RGB", "L", "CMYK"):
        return picture
    picture.load()
    picture.info.pop("transparency", None)
    return picture.convert("L" if picture.mode in ("1", "LA") else "RGB")


def _laid(picture: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Decode a picture, and lay it on a background."""
    picture = picture.convert("RGBA")
    laid = Image.new("RGB", picture.size, background)
    laid.paste(picture, mask=picture)
    return laid


def _is_cut_webp(data: bytes) -> bool:
    """Whether a WEBP file has fewer bytes than its length field says. libwebp does not tell that from other damage."""
    return data.startswith(b"RIFF") and len(data) < 8 + int.from_bytes(data[4:8], "little")
