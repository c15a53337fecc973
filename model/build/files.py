"""Read files that a user names, and show and sort their names."""

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from model.build.errors import BuildError

NAMED = 5
"""So many names are in a message; of the others it says the number."""

ENDINGS = (".tar", ".pth", ".pt", ".safetensors", ".bin", ".zip")
"""The endings of the files that a model can be built of."""
HUB = ("hf-hub:", "hf_hub:")
FOLDER = "local-dir:"
"""What the names of repositories of the hub, and perhaps those of folders, begin with."""


def absent(source: str) -> str | None:
    """Say that the file or folder ``source`` is not there; None if it is, or if the name may be that of a network."""
    name = source.removeprefix(FOLDER)
    if source.startswith(HUB) or Path(name).exists():
        return None
    if name != source:
        return f"There is no folder {printable(name)}."
    return f"There is no file or folder {printable(name)}." if "/" in name or name.endswith(ENDINGS) else None


def read_file(file: Path, most: int) -> bytes:
    """Return the bytes of a regular file. Pipes and devices are not opened, because they could wait for ever.

    Raises ``BuildError`` if it cannot be read, or is larger than ``most`` bytes.
    """
    try:
        if not file.is_file():
            kind = "is no regular file" if file.exists() else "does not exist"
            raise BuildError(f"{printable(file)} {kind}.")
        with file.open("rb") as opened:
            data = opened.read(most + 1)
    except OSError as error:
        raise BuildError(f"{printable(file)} cannot be read: {error.strerror}.") from error
    if len(data) > most:
        raise BuildError(f"{printable(file)} is larger than {most / 1e6:g} MB.")
    return data


def natural_key(name: str) -> list[str | int]:
    """Return timm's key for sorting: numbers inside a name count as numbers, upper and lower case are the same."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", name.lower()))]


def printable(name: str | os.PathLike[str]) -> str:
    """Return a name as messages show it: control characters and bytes that are no UTF-8 are escaped."""
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in ("Cc", "Cs") else character
        for character in os.fspath(name)
    )


def enumerated(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(map(printable, names[:NAMED])) + (f" and {more} more" if more > 0 else "")
