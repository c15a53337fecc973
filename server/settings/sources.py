"""The texts that settings are made of: files of values, flags and Job templates, read within limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from server.settings import documents
from server.settings.documents import DocumentError
from server.shipped import DEFAULT_VALUES, TEMPLATES

TEMPLATE_SUFFIX = ".yaml.j2"
TEMPLATE_BYTES, MOST_TEMPLATES = 1 << 18, 100


class ConfigError(DocumentError):
    """The settings cannot be used; ``findings`` lists what is wrong."""


@dataclass(frozen=True, slots=True)
class Templates:
    """The Job templates of one folder, by file name."""

    folder: str
    """As people are shown it."""
    texts: Mapping[str, str]
    unusable: Mapping[str, str]
    """Why a file that is there cannot be read. It stops only the tiers that use it."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What one state of the files contains."""

    layers: tuple[tuple[str, str], ...]
    """File name and text, in the order in which they are merged."""
    overrides: tuple[str, ...]
    """Flags (``a.b.c=v``), which go over all layers."""
    templates: Templates


@dataclass(frozen=True, slots=True)
class Files:
    """Where settings are read from. With ``base=None`` the file ``values`` is complete, as one that Helm has merged."""

    values: Path = DEFAULT_VALUES
    overrides: tuple[str, ...] = ()
    base: Path | None = DEFAULT_VALUES
    templates: Path = TEMPLATES

    @property
    def layers(self) -> list[Path]:
        """The files of values, in the order in which they are merged."""
        return [path for path in dict.fromkeys((self.base, self.values)) if path is not None]

    def read(self) -> Sources:
        """Read all files. Raises ``ConfigError``."""
        try:
            layers = tuple((documents.shown(path), documents.read_text(path)) for path in self.layers)
        except DocumentError as error:
            raise ConfigError(error.findings) from error
        return Sources(layers, self.overrides, read_templates(self.templates))

    def state(self) -> list[tuple[Path, int, int, int]]:
        """Return what differs when any file was edited, replaced, added or removed."""
        found = []
        for path in [*self.layers, *sorted(self.templates.glob(f"*{TEMPLATE_SUFFIX}"))]:
            try:
                stat = path.stat()
            except OSError:
                found.append((path, 0, 0, 0))
            else:
                # The inode, too: a changed ConfigMap is another file behind the same symbolic link.
                found.append((path, stat.st_mtime_ns, stat.st_ino, stat.st_size))
        return found


def read_templates(folder: Path = TEMPLATES) -> Templates:
    """Read the templates of a folder, of which there may be ``MOST_TEMPLATES``."""
    texts, unusable = {}, {}
    for count, path in enumerate(sorted(folder.glob(f"*{TEMPLATE_SUFFIX}"))):
        if count >= MOST_TEMPLATES:
            unusable[path.name] = f"comes after {MOST_TEMPLATES} other templates, which is too many"
            continue
        try:
            texts[path.name] = documents.read_text(path, TEMPLATE_BYTES)
        except DocumentError as error:
            unusable[path.name] = error.findings[0].message
    return Templates(documents.shown(folder.absolute()), texts, unusable)
