"""Name the classes of a model: from a file, from the source of its weights, or from the folders of pictures."""

import itertools
import json
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.build.errors import BuildError
from model.build.files import enumerated, natural_key, printable, read_file
from model.build.folders import Found

MOST_BYTES = 10_000_000
"""The largest file of labels that is read."""
MOST_CHARACTERS = 200
"""The longest label that the server takes from a worker."""
_FORMS = "a line each, a JSON list, or a JSON map (index to label, label to index, or folder to label)"


@dataclass(frozen=True, slots=True)
class Labels:
    """The names of a model's classes."""

    labels: tuple[str, ...]
    """A unique label for each class."""
    folders: tuple[str, ...] | None
    """The name of the folder of each class, if that is known."""
    warnings: tuple[str, ...]
    """What their owner should know, a sentence each."""


@dataclass(frozen=True, slots=True)
class _Names:
    """What somebody calls the classes, in their order; None where a class has no name."""

    origin: str
    labels: Sequence[str | None]
    folders: Sequence[str] | None = None


def choose(
    classes: int,
    *,
    given: Path | None,
    names: Sequence[str] | None,
    descriptions: Sequence[str] | None,
    folder: Found | None,
) -> Labels:
    """Return a label for each of ``classes`` classes.

    They come from the file ``given``, else from the source of the weights (``descriptions``, else ``names``), else from
    the class folders in ``folder``; else they are "class 7" and so on. ``names`` are also the names of the folders,
    unless the file tells others.

    Raises ``BuildError`` if their number is not ``classes``, or a label cannot be used.
    """
    warnings: list[str] = []
    if given is not None:
        chosen = _read(given, names, folder.folders if folder is not None else None)
    elif names is not None or descriptions is not None:
        chosen = _Names("the source of the weights", _described(names, descriptions), names)
    elif folder is not None and folder.folders is not None:
        chosen = _Names(f"the class folders in {printable(folder.folder)}", folder.folders, folder.folders)
        warnings += _by_chance(folder.folders)
    else:
        numbers = tuple(f"class {number}" for number in range(classes))
        return Labels(numbers, None, ("The classes have no names, only numbers; give their names with --labels FILE.",))
    if len(chosen.labels) != classes:
        raise BuildError(
            f"There are {len(chosen.labels)} labels in {chosen.origin}, but the network has {classes} classes; give "
            f"one label for each class with --labels FILE: {_FORMS}."
        )
    folders = tuple(chosen.folders) if chosen.folders is not None and len(chosen.folders) == classes else None
    labels = [_checked(label, number, chosen.origin) for number, label in enumerate(chosen.labels)]
    unnamed = [f"class {number}" for number, label in enumerate(labels) if label is None]
    if unnamed:
        warnings.append(f"{len(unnamed)} of {classes} classes have no name: {enumerated(unnamed)}.")
    unique = _unique([label or f"class {number}" for number, label in enumerate(labels)], folders, warnings)
    return Labels(tuple(unique), folders, tuple(warnings))


def _described(names: Sequence[str] | None, descriptions: Sequence[str] | None) -> Sequence[str | None]:
    """Return the descriptions, and the name of a class where its description is empty."""
    if names is None or descriptions is None or len(names) != len(descriptions):
        return descriptions or names or ()
    return [description.strip() or name for description, name in zip(descriptions, names, strict=True)]


def _by_chance(folders: Sequence[str]) -> Iterator[str]:
    for one, other in itertools.pairwise(folders):
        if natural_key(one) == natural_key(other):
            yield (
                f'timm sorts the folders "{printable(one)}" and "{printable(other)}" by chance, so their labels may be '
                "exchanged; give --labels FILE if they are."
            )


def _checked(label: str | None, number: int, origin: str) -> str | None:
    """Return a label without white space around it; None if nothing is left. Raises ``BuildError`` if it is unfit."""
    label = (label or "").strip()
    what = f'The label of class {number} in {origin}, "{printable(label[:50])}",'
    if len(label) > MOST_CHARACTERS:
        raise BuildError(f"{what} has {len(label)} characters; the limit is {MOST_CHARACTERS}.")
    categories = {unicodedata.category(character) for character in label}
    if "Cc" in categories:
        raise BuildError(f"{what} contains a control character; take it away, or give other labels with --labels FILE.")
    if "Cs" in categories:
        raise BuildError(f"{what} is no valid Unicode text; give other labels with --labels FILE.")
    return label or None


def _unique(labels: Sequence[str], folders: Sequence[str] | None, warnings: list[str]) -> list[str]:
    """Tell labels apart that are the same: by the name of the class's folder if it is known, else by its number."""
    times = Counter(map(_composed, labels))
    taken = {label for label, count in times.items() if count == 1}
    unique = []
    for number, label in enumerate(labels):
        if times[_composed(label)] > 1:
            named = [] if folders is None else [folders[number].strip()[:50]]
            numbers = (f"class {number}{f', {again}' if again else ''}" for again in itertools.count())
            marks = itertools.chain((name for name in named if name not in ("", label)), numbers)
            candidates = (f"{label[: MOST_CHARACTERS - len(mark) - 3]} ({mark})" for mark in marks)
            label = next(name for name in candidates if _composed(name) not in taken)
            taken.add(_composed(label))
        unique.append(label)
    repeated = [f'"{label}"' for label, count in times.items() if count > 1]
    if repeated and folders is None:
        warnings.append(f"Several classes have the same label, so their number was added: {enumerated(repeated)}.")
    return unique


def _composed(label: str) -> str:
    """Return the form that is the same for all texts that look the same."""
    return unicodedata.normalize("NFC", label)


def _read(file: Path, names: Sequence[str] | None, present: Sequence[str] | None) -> _Names:
    """Read a file of labels. ``names`` are the classes' in the source, ``present`` the class folders that there are."""
    data = read_file(file, MOST_BYTES)
    origin = printable(file)
    if file.suffix.lower() in (".pkl", ".pickle") or data.startswith(b"\x80"):
        raise BuildError(f"{origin} is a pickle, and a pickle can carry code, so it is not read; write {_FORMS}.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BuildError(f"{origin} is no UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    if file.suffix.lower() == ".json" or text.lstrip().startswith(("[", "{")):
        try:
            parsed = json.loads(text, object_pairs_hook=_without_repeats)
        except (ValueError, RecursionError) as error:
            if file.suffix.lower() == ".json":  # in another file a line may begin with a bracket
                raise BuildError(f"{origin} cannot be read as JSON: {error}.") from error
        else:
            return _from_json(parsed, origin, names, present)
    # Not splitlines(): a label may contain Unicode's own line separators.
    lines = text.replace("\r\n", "\n").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return _Names(origin, lines, names)


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        raise ValueError(f"repeated keys: {enumerated(repeated)}")
    return made


def _from_json(parsed: Any, origin: str, names: Sequence[str] | None, present: Sequence[str] | None) -> _Names:
    if isinstance(parsed, list) and all(label is None or isinstance(label, str) for label in parsed):
        return _Names(origin, parsed, names)
    if isinstance(parsed, dict) and all(type(index) is int for index in parsed.values()):
        order = {index: label for label, index in parsed.items()}
        if sorted(order) != list(range(len(parsed))):
            raise BuildError(_wrong_indices(origin, parsed.values()))
        return _Names(origin, [order[index] for index in range(len(parsed))], names)
    if isinstance(parsed, dict) and all(label is None or isinstance(label, str) for label in parsed.values()):
        return _from_map(parsed, origin, names, present)
    raise BuildError(f"{origin} is no list of labels; write {_FORMS}.")


def _from_map(
    labels: Mapping[str, str | None], origin: str, names: Sequence[str] | None, present: Sequence[str] | None
) -> _Names:
    """Read a map from index to label; or else from folder to label, in the order in which timm sorts the folders."""
    indices = [str(index) for index in range(len(labels))]
    if set(labels) == set(indices):
        return _Names(origin, [labels[index] for index in indices], names)
    for folders in (names, present):
        if folders is not None and set(folders) == set(labels):
            return _Names(origin, [labels[folder] for folder in folders], folders)
    if "0" in labels and all(key.isdecimal() for key in labels):
        raise BuildError(_wrong_indices(origin, labels))
    if any(len(key) > MOST_CHARACTERS for key in labels):
        raise BuildError(f"{origin} has a folder's name of more than {MOST_CHARACTERS} characters; write {_FORMS}.")
    folders = sorted(labels, key=natural_key)
    return _Names(origin, [labels[folder] for folder in folders], folders)


def _wrong_indices(origin: str, found: Collection[object]) -> str:
    missing = set(range(len(found))) - {int(index) for index in map(str, found) if len(index) < 9}
    return (
        f"{origin} has {len(found)} labels, so their indices must be 0 to {len(found) - 1}, but these are missing: "
        f"{enumerated(list(map(str, sorted(missing))))}."
    )
