"""Find the pictures in a folder, and the class folders in which they lie."""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.build.errors import BuildError
from model.build.files import enumerated, natural_key, printable
from model.formats import ENDINGS

OTHER_ENDINGS = (".heic", ".heif", ".jp2", ".jxl", ".ppm", ".pgm", ".tga")
"""How the names of pictures end that are not read, and left out with a warning."""
MOST_ENTRIES = 1_000_000
"""So many files and folders may lie in the folder and below it."""


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in a folder of pictures."""

    folder: Path
    """The folder."""
    folders: tuple[str, ...] | None
    """The names of its class folders, as timm orders them; None if all pictures lie in one folder."""
    files: Mapping[str, Sequence[Path]]
    """The pictures of each class folder, in natural order; those of an empty name if there are no class folders."""
    warnings: tuple[str, ...]
    """What was left out, a sentence each."""


def find(folder: Path) -> Found:
    """Look for pictures in ``folder`` and in all folders below it. A picture's class is the folder in which it lies.

    Links are followed, and each folder is read once. Hidden files and folders are ignored, and so are files that are
    no pictures by their ending.

    Raises ``BuildError`` if there is no such folder, no picture in it, an empty class folder, or too much.
    """
    walk = _Walk(folder)
    try:
        if not folder.is_dir():
            raise BuildError(f"There is no folder {printable(folder)}; --data needs a folder with your pictures.")
        walk.run()
    except OSError as error:
        raise BuildError(f"{printable(error.filename or folder)} cannot be read: {error.strerror}.") from error
    files, warnings = walk.files, walk.warnings()
    loose = files.pop("", [])
    if not files and not loose:
        endings = ", ".join(ENDINGS)
        raise BuildError(
            " ".join([f"There are no pictures in {printable(folder)}: no name ends in {endings}.", *warnings])
        )
    if walk.empty:
        raise BuildError(
            f"{len(walk.empty)} class folders in {printable(folder)} are empty or have no pictures that can be read: "
            f"{enumerated(walk.empty)}. Put pictures there, or take the folders away."
        )
    if not files:
        return Found(folder, None, {"": loose}, warnings)
    if loose:
        first = printable(loose[0].name)
        warnings += (f"{len(loose)} pictures lie beside the class folders and were left out, first {first}.",)
    # timm leaves it to chance which of two names with the same key comes first.
    names = tuple(sorted(files, key=lambda name: (natural_key(name), name)))
    return Found(folder, names, {name: files[name] for name in names}, warnings)


class _Walk:
    """One walk through a folder and all below it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folders, self._links = [folder], list[Path]()
        self._other: Counter[str] = Counter()
        self._irregular: list[str] = []
        self._again: list[str] = []
        self.files: dict[str, list[Path]] = defaultdict(list)
        """The pictures by the name of the folder in which they lie; those of the folder itself by an empty name."""
        self.empty: list[str] = []
        """Folders without pictures and without folders."""

    def run(self) -> None:
        """Walk. Raises ``OSError``, and ``BuildError`` if there is too much."""
        seen, left = set(), MOST_ENTRIES
        while self._folders or self._links:
            # Links come last, so that a folder is known by its own name and not by that of a link.
            path = self._folders.pop() if self._folders else self._links.pop(0)
            status = path.stat()
            if (status.st_dev, status.st_ino) in seen:
                self._again.append(self._inside(path))
                continue
            seen.add((status.st_dev, status.st_ino))
            left -= self._look(path, left)
        for files in self.files.values():
            files.sort(key=lambda file: (natural_key(str(file)), str(file)))

    def warnings(self) -> tuple[str, ...]:
        """Say what was left out."""
        said = []
        if self._other:
            kinds = ", ".join(f"{number} {ending}" for ending, number in sorted(self._other.items()))
            said.append(
                f"Pictures of these kinds are not read and were left out: {kinds}. Convert them to JPEG or PNG."
            )
        if self._irregular:
            many = len(self._irregular)
            said.append(f"{many} names of pictures are no regular files: {enumerated(self._irregular)}.")
        if self._again:
            said.append(f"{len(self._again)} links lead to folders that are read already: {enumerated(self._again)}.")
        return tuple(said)

    def _look(self, path: Path, most: int) -> int:
        """Look at what lies in a folder; return how many entries that were."""
        count, pictures, folders = 0, [], 0
        with os.scandir(path) as entries:
            for count, entry in enumerate(entries, 1):
                if count > most:
                    raise BuildError(f"{printable(self._folder)} has more than {MOST_ENTRIES:,} files and folders.")
                if entry.name.startswith("."):
                    continue
                link = entry.is_symlink()
                # DirEntry raises an error for a link that leads to itself, and Path does not.
                if Path(entry).is_dir() if link else entry.is_dir():
                    folders += 1
                    (self._links if link else self._folders).append(Path(entry))
                elif self._is_picture(entry):
                    pictures.append(Path(entry))
        if pictures:
            self.files["" if path == self._folder else path.name] += pictures
        elif not folders and path != self._folder:
            self.empty.append(self._inside(path))
        return count

    def _is_picture(self, entry: os.DirEntry[str]) -> bool:
        ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - Path takes seconds for a million names
        if ending in OTHER_ENDINGS:
            self._other[ending] += 1
        if ending not in ENDINGS:
            return False
        regular = Path(entry).is_file() if entry.is_symlink() else entry.is_file()
        if not regular:
            self._irregular.append(self._inside(Path(entry)))
        return regular

    def _inside(self, path: Path) -> str:
        return str(path.relative_to(self._folder))
