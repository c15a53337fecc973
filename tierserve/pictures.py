"""A picture as a caller has it, and the bytes of it that are sent."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from tierserve.errors import BadPicture

if TYPE_CHECKING:
    from PIL import Image

Picture: TypeAlias = Union[str, "os.PathLike[str]", bytes, "Image.Image"]
"""The path of a picture, its bytes, or an image of Pillow."""

AS_THEY_ARE = frozenset({"1", "L", "P", "RGB", "RGBA"})
"""Pillow's modes that a PNG can have and workers can read."""
FAST = 1  # zlib's fastest level: most networks are faster than its best one


def bytes_of(picture: Picture) -> bytes:
    """The bytes to send. It may read a file, or write a PNG, so it does not belong on an event loop.

    An image of Pillow becomes a PNG without loss, turned upright as its EXIF says. Raises ``BadPicture``.
    """
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, (str, os.PathLike)):
        try:
            return Path(picture).read_bytes()
        except (OSError, ValueError) as error:
            raise BadPicture(f"{picture} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    # Whoever has an image of Pillow has imported it.
    if "PIL.Image" in sys.modules and isinstance(picture, sys.modules["PIL.Image"].Image):
        return _png(picture)
    raise BadPicture(f"a picture is a path, bytes or an image of Pillow, and not a {type(picture).__name__}")


def _png(image: Image.Image) -> bytes:
    from PIL import ImageOps

    file = io.BytesIO()
    try:
        upright = ImageOps.exif_transpose(image)
        shown = upright if upright.mode in AS_THEY_ARE else upright.convert("RGB")
        shown.save(file, "PNG", compress_level=FAST)
    except (OSError, ValueError, SyntaxError) as error:
        raise BadPicture(f"an image of Pillow cannot be written as PNG: {error}") from error
    return file.getvalue()
