"""The folder of models: a folder ``NAME@VERSION`` for each, and symbolic links ``NAME`` and ``NAME@TAG``.

``NAME`` points to what was built last. So ``folder / reference`` finds a model by any of its names.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from model.build.errors import BuildError
from model.description import RECORD, Model, ModelError, read_model

MOST_CHARACTERS = 60
UNFINISHED = ".build-"
UNFINISHED_SECONDS = 86_400.0

_WORD = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MOST_CHARACTERS - 1}}}")
_VERSION = re.compile(r"[0-9a-f]{8}")


def check_name(name: str) -> None:
    """Raise ``BuildError`` unless a model can have this name."""
    _check_word("name of a model", name)


def check_tag(tag: str) -> None:
    """Raise ``BuildError`` unless a model can have this tag; one that looks like a version would be mistaken for it."""
    _check_word("tag", tag)
    if _VERSION.fullmatch(tag):
        raise BuildError(f"{tag} looks like a version, so it can be no tag; choose another word.")


def unfinished(models: Path) -> TemporaryDirectory[str]:
    """Return a folder to build in, which is deleted afterwards; it is in ``models``, so that a rename can publish it.

    Folders that builds have left behind, because they were killed, are deleted after a day.
    """
    models.mkdir(parents=True, exist_ok=True)
    for left in models.glob(f"{UNFINISHED}*"):
        if left.stat().st_mtime < time.time() - UNFINISHED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    return TemporaryDirectory(prefix=UNFINISHED, dir=models)


def publish(made: Path, models: Path, model: Model, tags: tuple[str, ...] = ()) -> Path:
    """Move the finished folder ``made`` to its place in ``models``, and point its name and its tags to it.

    Raises ``BuildError`` when something else is in its place.
    """
    target = models / model.reference
    for place in (target, models / model.name):
        _make_room(place, made.parent)
    made.rename(target)
    for link in (model.name, *(f"{model.name}@{tag}" for tag in tags)):
        _point(models / link, target.name)
    return target


def tag(models: Path, reference: str, word: str) -> Model:
    """Point the tag ``word`` to the model that ``reference`` names; return the model.

    Raises ``BuildError`` for a bad tag, and ``ModelError`` when there is no such model.
    """
    check_tag(word)
    model = find(models, reference)
    _point(models / f"{model.name}@{word}", model.reference)
    return model


def find(models: Path, reference: str) -> Model:
    """Read the model that ``NAME``, ``NAME@VERSION`` or ``NAME@TAG`` names; ``BuildError`` for anything else."""
    for word in reference.split("@", 1):
        _check_word("name of a model", word)
    return read_model(models / reference)


def listed(models: Path) -> Iterator[tuple[Model, tuple[str, ...]]]:
    """All models of the folder that can be read, by name and time, each with what points to it."""
    found = []
    for record in models.glob(f"[!.]*/{RECORD}"):
        if not record.parent.is_symlink():
            try:
                found.append((read_model(record.parent), record.stat().st_mtime))
            except ModelError:
                continue
    links = [path for path in models.iterdir() if path.is_symlink()] if found else []
    for model, _ in sorted(found, key=lambda pair: (pair[0].name, pair[1])):
        yield model, tuple(sorted(link.name for link in links if link.resolve() == model.path.resolve()))


def _check_word(what: str, word: str) -> None:
    if not _WORD.fullmatch(word):
        raise BuildError(
            f"{word!r} cannot be the {what}: use letters, digits, '.', '_' and '-', a letter or a digit "
            f"first, and at most {MOST_CHARACTERS} of them."
        )


def _make_room(target: Path, bin_: Path) -> None:
    """Move what is at ``target`` into the folder ``bin_``: a rename replaces only folders that are empty."""
    if target.is_symlink() or not target.exists():
        return
    if not (target / RECORD).is_file():
        raise BuildError(f"{target} is in the way, and it is no model; move it, or choose another --name.")
    target.rename(bin_ / f"{target.name}.old")


def _point(link: Path, target: str) -> None:
    new = link.with_name(f"{UNFINISHED}{os.getpid()}-{link.name}")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)
