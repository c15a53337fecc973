"""The owner's pictures: divide them into those that calibrate a model and those that measure it, and decode them."""

import os
import random
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Protocol

from model.build.errors import BuildError
from model.build.files import NAMED, enumerated, printable, read_file
from model.build.folders import Found, find
from model.build.progress import Progress
from model.images import ImageError, Preprocessing, load

__all__ = ["Found", "Picture", "find", "readable", "split"]

MOST_BYTES = 100_000_000
"""The largest file of a picture that is read."""
MOST_PIXELS = 100_000_000
"""The most pixels of a picture."""
MOST_BROKEN = 0.05
"""The share of the pictures that may be left out because they cannot be decoded."""
MOST_CALIBRATION = 200
"""So many pictures calibrate at most."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that calibrates or measures a model."""

    name: str
    """For messages: its path inside the folder, or what it shows."""
    source: Path | bytes
    """Its file, or its bytes."""
    truth: int | None
    """The number of its true class; None if that is not known."""

    def read(self) -> bytes:
        """Return its bytes. Raises ``BuildError`` if its file cannot be read or is larger than ``MOST_BYTES``."""
        return self.source if isinstance(self.source, bytes) else read_file(self.source, MOST_BYTES)


class Classes(Protocol):
    """The classes of a model."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The label of each class."""

    @property
    def folders(self) -> tuple[str, ...] | None:
        """The name of each class's folder, if that is known."""


def split(found: Found, labels: Classes, most: int) -> tuple[list[Picture], list[Picture], tuple[str, ...]]:
    """Choose at most ``most`` pictures. Returns those that calibrate, those that are measured, and warnings.

    The choice is the same every time, and no picture is in both parts. A fifth calibrates: one of each class at least
    if the class has two, but never more than half of all, nor more than ``MOST_CALIBRATION``. One picture of each class
    is measured before a second of any class is; beyond that the classes keep their proportions.

    Raises ``BuildError`` if there are fewer than two pictures, or a class folder that is no class.
    """
    truths = _truths(found, labels)
    firsts, others = _drawn(found, truths)
    total = min(most, len(firsts) + len(others))
    if total < 2:
        raise BuildError(
            f"{printable(found.folder)} gives {total} picture; 2 are needed, one to calibrate and one to measure."
        )
    paired = len({picture.truth for picture in others})
    count = min(MOST_CALIBRATION, total // 2, max(total // 5, paired, 1))
    if not others:  # one picture a class: some classes must do without being measured
        others, firsts = firsts[:count], firsts[count:]
    calibration, rest = others[:count], firsts + others[count:]
    measured = rest[: total - len(calibration)]
    return calibration, measured, found.warnings + _remarks(found, labels, truths, measured)


def _drawn(found: Found, truths: Mapping[str, int | None]) -> tuple[list[Picture], list[Picture]]:
    """Return one picture of each class, and the others in the order in which they are to be taken."""
    classes: dict[int | None, list[Picture]] = defaultdict(list)
    for folder, files in found.files.items():
        for file in files:
            name = printable(file.relative_to(found.folder))
            classes[truths[folder]].append(Picture(name, file, truths[folder]))
    chance = random.Random(20)  # noqa: S311 - a fixed seed: every build takes the same pictures
    places = []
    for pictures in classes.values():
        chance.shuffle(pictures)
        for rank, picture in enumerate(pictures):
            # The first two of each class come first, and then as many of a class as it has in proportion.
            places.append(((min(rank, 2), rank / len(pictures) if rank > 1 else 0.0, chance.random()), picture))
    places.sort(key=lambda place: place[0])
    ordered = [picture for _, picture in places]
    return ordered[: len(classes)], ordered[len(classes) :]


def _truths(found: Found, labels: Classes) -> dict[str, int | None]:
    """Return the number of the class of each class folder. Raises ``BuildError`` if there is none."""
    if found.folders is None:
        return {"": None}
    names = [*enumerate(labels.labels), *enumerate(labels.folders or ())]
    known = {_composed(name): number for number, name in names} | {name: number for number, name in names}
    truths = {name: known.get(name, known.get(_composed(name))) for name in found.folders}
    strange = [name for name, truth in truths.items() if truth is None]
    if strange:
        told = [_with_near(name, known) for name in strange[:NAMED]] + strange[NAMED:]
        raise BuildError(
            f"{len(strange)} of {len(truths)} class folders in {printable(found.folder)} are no labels of the model: "
            f"{enumerated(told)}. Rename them, or give --labels with a JSON map from folder to label."
        )
    return truths


def _composed(name: str) -> str:
    """Return the composed form of accents: macOS decomposes them in the names of folders."""
    return unicodedata.normalize("NFC", name)


def _with_near(name: str, known: Mapping[str, int]) -> str:
    folded = {label.casefold(): label for label in known}
    near = get_close_matches(name.casefold(), folded, 1)
    return f'"{name}" (the nearest label is "{folded[near[0]]}")' if near else f'"{name}"'


def _remarks(
    found: Found, labels: Classes, truths: Mapping[str, int | None], measured: Sequence[Picture]
) -> tuple[str, ...]:
    if found.folders is None:
        return ()
    remarks = []
    present = set(truths.values())
    without = [label for number, label in enumerate(labels.labels) if number not in present]
    if without:
        remarks.append(
            f"{len(without)} of {len(labels.labels)} classes have no folder in {printable(found.folder)} and are not "
            f"measured: {enumerated(without)}."
        )
    missed = sorted(present - {picture.truth for picture in measured}, key=str)
    if missed:
        names = [labels.labels[number] for number in missed if number is not None]
        remarks.append(
            f"{len(missed)} classes have no picture among the {len(measured)} that are measured: {enumerated(names)}."
        )
    return tuple(remarks)


def readable(
    pictures: Sequence[Picture], how: Preprocessing, progress: Progress
) -> tuple[list[Picture], tuple[str, ...]]:
    """Decode all pictures. Returns those that can be decoded, and a warning that names the others.

    Raises ``BuildError`` if more than one, and more than ``MOST_BROKEN`` of all, cannot be decoded.
    """
    kept, broken = [], []
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for picture, fault in zip(pictures, pool.map(partial(_fault, how=how), pictures), strict=True):
            progress.advance()
            if fault:
                broken.append(f"{picture.name} ({fault})")
            else:
                kept.append(picture)
    finally:
        pool.shutdown(cancel_futures=True)
    if not broken:
        return kept, ()
    told = f"{len(broken)} of {len(pictures)} pictures cannot be decoded"
    if len(broken) > max(1, MOST_BROKEN * len(pictures)):
        raise BuildError(f"{told}, more than {MOST_BROKEN:.0%}: {enumerated(broken)}. Mend them or take them away.")
    return kept, (f"{told} and were left out: {enumerated(broken)}.",)


def _fault(picture: Picture, how: Preprocessing) -> str:
    """Say why a picture cannot be decoded; an empty text if it can."""
    try:
        load(picture.read(), how, MOST_PIXELS)
    except BuildError as error:
        return str(error).rstrip(".")
    except ImageError as error:
        return error.detail.rstrip(".")
    return ""
