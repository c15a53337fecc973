"""Which pictures a command means: those that it names, those in folders, those in a list, and standard input."""

from __future__ import annotations

import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tierserve.errors import BadPicture
from tierserve.pictures import PART_BYTES, Picture, joined

STANDARD_INPUT = "-"
ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".avif", ".tif", ".tiff", ".bmp", ".dib"}
)
"""What the names of pictures end with, of all files of a folder."""
LONGEST_ENDING = 10


@dataclass(frozen=True, slots=True)
class Found:
    """The ``pictures``, in order, and how many files of folders were ``skipped``, by what they are."""

    pictures: Sequence[Picture]
    skipped: Mapping[str, int]

    @property
    def remark(self) -> str:
        """How many files were skipped, in words; empty if none was."""
        if not self.skipped:
            return ""
        kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(self.skipped.items()))
        return f"{sum(self.skipped.values())} files of folders were skipped: {kinds}"


def found(names: Iterable[str]) -> Found:
    """The pictures of these names. A folder stands for all pictures in it and below, and ``-`` for standard input.

    It reads standard input, and raises ``BadPicture`` if nothing can come from there. What else cannot be read is found
    out when it is the picture's turn.
    """
    pictures: list[Picture] = []
    skipped: Counter[str] = Counter()
    standard_input = False
    for name in names:
        if name == STANDARD_INPUT:
            if standard_input:
                raise BadPicture(f"{STANDARD_INPUT} is standard input, and can be named once")
            standard_input = True
            pictures.append(_standard_input("a picture"))
        elif _is_folder(name):
            pictures += _inside(Path(name), skipped)
        else:
            pictures.append(name)
    return Found(pictures, +skipped)  # without the zeros


def listed(file: str) -> list[str]:
    """The names in a file, or in standard input (``-``): a line each, or each ended by a NUL character.

    Raises ``BadPicture`` if it cannot be read.
    """
    try:
        if file == STANDARD_INPUT:
            text = _standard_input("a list of files")
        else:
            with Path(file).open("rb") as opened:
                text = joined(iter(partial(opened.read, PART_BYTES), b""), file)
    except (OSError, ValueError) as error:
        raise BadPicture(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    names = text.split(b"\0") if b"\0" in text else (line.removesuffix(b"\r") for line in text.split(b"\n"))
    return [os.fsdecode(name) for name in names if name]


def _standard_input(what: str) -> bytes:
    if sys.stdin is None:
        raise BadPicture("standard input is closed")
    if sys.stdin.isatty():
        raise BadPicture(f"standard input is a terminal: give {what} with < FILE, or through a pipe")
    return joined(iter(partial(sys.stdin.buffer.read, PART_BYTES), b""), "standard input")


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):
        return False  # what is wrong with it is told when it is its turn


def _inside(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    """The pictures in a folder and below, by their names. Links to other folders are not followed."""
    unreadable: list[OSError] = []
    for where, folders, files in os.walk(folder, onerror=unreadable.append):
        shown = [name for name in folders if not name.startswith(".")]
        folders[:] = sorted(name for name in shown if not Path(where, name).is_symlink())
        skipped["links to folders"] += len(shown) - len(folders)
        skipped["hidden"] += sum(name.startswith(".") for name in files)
        for name in sorted(name for name in files if not name.startswith(".")):
            path = Path(where, name)
            if why := _no_picture(path):
                skipped[why] += 1
            else:
                yield path
    # What is wrong with a folder is told as of a picture, when it is its turn.
    yield from (Path(error.filename) for error in unreadable)


def _no_picture(path: Path) -> str:
    """What this file of a folder is instead of a picture; empty if it may be one."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        return ending if ending.isprintable() and 1 < len(ending) <= LONGEST_ENDING else "others"
    try:
        return "" if stat.S_ISREG(path.stat().st_mode) else "pipes and devices"
    except OSError:
        return ""  # told when it is its turn
