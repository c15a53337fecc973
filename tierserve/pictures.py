"""A picture as a caller has it, and the bytes of it that are sent."""

from __future__ import annotations

import io
import os
import re
import select
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from tierserve.errors import BadPicture

if TYPE_CHECKING:
    from PIL import Image

Picture: TypeAlias = Union[str, "os.PathLike[str]", bytes, "Image.Image"]
"""The path of a picture, its bytes, or an image of Pillow."""

AS_THEY_ARE = frozenset({"1", "L", "P", "RGB", "RGBA"})
"""Pillow's modes that a PNG can have and workers can read."""
MOST_BYTES = 1024**3
"""What a picture may have here: no tier can be set to take larger ones."""
PIPE_SECONDS = 60.0
"""How long it is waited for what comes next out of a pipe."""
PART_BYTES = 1024 * 1024
_SURROGATE = re.compile("[\ud800-\udfff]")
FAST = 1  # zlib's fastest level: most networks are faster than its best one


def bytes_of(picture: Picture) -> bytes:
    """The bytes to send. It may read a file, or write a PNG, so it does not belong on an event loop.

    An image of Pillow becomes a PNG without loss, turned upright as its EXIF says. Raises ``BadPicture``.
    """
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, (str, os.PathLike)):
        return _content(picture)
    # Whoever has an image of Pillow has imported it.
    if "PIL.Image" in sys.modules and isinstance(picture, sys.modules["PIL.Image"].Image):
        return _png(picture)
    raise BadPicture(f"a picture is a path, bytes or an image of Pillow, and not a {type(picture).__name__}")


def name_of(picture: Picture) -> str:
    r"""What a picture is called: its path, or ``-`` if it has none. A byte of a path that is no UTF-8 is ``\xff``."""
    return _SURROGATE.sub(_escaped, os.fspath(picture)) if isinstance(picture, (str, os.PathLike)) else "-"


def _escaped(surrogate: re.Match[str]) -> str:
    number = ord(surrogate[0])
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"  # PEP 383


def joined(parts: Iterable[bytes], name: str) -> bytes:
    """The parts of a picture as one. Raises ``BadPicture`` if they are nothing, or too much for any tier."""
    held, length = [], 0
    for part in parts:
        held.append(part)
        length += len(part)
        if length > MOST_BYTES:
            raise _too_large(name)
    if not length:
        raise BadPicture(f"{name} is empty")
    return b"".join(held)


def _too_large(name: str) -> BadPicture:
    return BadPicture(f"{name} has more than {MOST_BYTES} bytes, and no tier takes so many")


def _content(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file, or of a pipe into which somebody writes. Raises ``BadPicture``."""
    name = name_of(path)
    try:
        found = Path(path).stat()
        kind = found.st_mode
        if found.st_size > MOST_BYTES:
            raise _too_large(name)
        if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
            raise BadPicture(f"{name} is a device, and no picture")
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            return joined(_parts(file.fileno(), stat.S_ISFIFO(kind), name), name)
    except (OSError, ValueError) as error:
        raise BadPicture(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _parts(descriptor: int, is_pipe: bool, name: str) -> Iterator[bytes]:
    while True:
        if is_pipe and not select.select([descriptor], [], [], PIPE_SECONDS)[0]:
            raise BadPicture(f"{name} is a pipe into which nothing was written for {PIPE_SECONDS:g} s")
        if not (part := os.read(descriptor, PART_BYTES)):
            return
        yield part


def _open_at_once(path: str, flags: int) -> int:
    # A pipe that nobody opens for writing would block for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


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
