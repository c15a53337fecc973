"""The texts that settings are made of: files of values, flags and Job templates, read within limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from server.settings.texts import DocumentError, read_text, shown
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
    places: Mapping[str, str] = field(default_factory=dict)
    """How people are shown the templates that come from elsewhere than the folder."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What one state of the files contains."""

    layers: tuple[tuple[str, str], ...]
    """File name and text, in the order in which they are merged."""
    overrides: tuple[str, ...]
    """Flags ``--set``, which go over all layers."""
    templates: Templates
    typed: tuple[tuple[str, str], ...] = ()
    """Flags beside ``--set``: option and text, as ``overrides`` has them."""
    attached: Mapping[str, str] = field(default_factory=dict)
    """The texts of the files that ``--set-file`` names."""


def dumped(sources: Sources) -> str:
    """Return ``sources`` as JSON."""
    return json.dumps(asdict(sources))


def restored(data: Mapping[str, Any]) -> Sources:
    """Return the ``Sources`` that ``dumped`` wrote. Raises ``LookupError``, ``TypeError`` or ``ValueError``."""
    layers = tuple((str(file), str(text)) for file, text in data["layers"])
    typed = tuple((str(option), str(text)) for option, text in data.get("typed", ()))
    attached = {str(name): str(text) for name, text in data.get("attached", {}).items()}
    return Sources(layers, tuple(map(str, data["overrides"])), Templates(**data["templates"]), typed, attached)


@dataclass(frozen=True, slots=True)
class Files:
    """Where settings are read from: ``base``, which are the chart's values, and files that are merged over it in order.

    With ``base=None`` there must be ``values``, and they are complete, as those that Helm has merged.
    """

    values: tuple[Path, ...] = ()
    overrides: tuple[str, ...] = ()
    base: Path | None = DEFAULT_VALUES
    templates: Path = TEMPLATES
    typed: tuple[tuple[str, str], ...] = ()

    @property
    def layers(self) -> list[Path]:
        """The files of values, in the order in which they are merged."""
        return [*([] if self.base is None else [self.base]), *self.values]

    @property
    def attached(self) -> list[str]:
        """The files that ``--set-file`` names. Raises ``ConfigError``."""
        if not any(option == "set-file" for option, _ in self.typed):
            return []
        from server.settings.overrides import files_of  # only now, because it imports what reads YAML

        try:
            return [name for option, text in self.typed if option == "set-file" for name in files_of(text)]
        except DocumentError as error:
            raise ConfigError(error.findings) from error

    def read(self) -> Sources:
        """Read all files. Raises ``ConfigError``."""
        try:
            layers = tuple((shown(path), read_text(path)) for path in self.layers)
            attached = {name: read_text(Path(name)) for name in self.attached}
        except DocumentError as error:
            raise ConfigError(error.findings) from error
        return Sources(layers, self.overrides, read_templates(self.templates), self.typed, attached)

    def state(self) -> list[tuple[Path, int, int, int]]:
        """Return what differs when any file was edited, replaced, added or removed."""
        found = []
        templates = sorted(self.templates.glob(f"*{TEMPLATE_SUFFIX}"))
        for path in [*self.layers, *map(Path, self.attached), *templates]:
            try:
                stat = path.stat()
            except OSError:
                found.append((path, 0, 0, 0))
            else:
                # The inode, too: a changed ConfigMap is another file behind the same symbolic link.
                found.append((path, stat.st_mtime_ns, stat.st_ino, stat.st_size))
        return found


def with_more(templates: Templates, texts: Mapping[str, str], places: Mapping[str, str]) -> Templates:
    """Return ``templates`` and ``texts``, which take the place of those with the same name."""
    unusable = {name: why for name, why in templates.unusable.items() if name not in texts}
    return Templates(templates.folder, {**templates.texts, **texts}, unusable, {**templates.places, **places})


def read_templates(folder: Path = TEMPLATES) -> Templates:
    """Read the templates of a folder, of which there may be ``MOST_TEMPLATES``."""
    texts, unusable = {}, {}
    for count, path in enumerate(sorted(folder.glob(f"*{TEMPLATE_SUFFIX}"))):
        if count >= MOST_TEMPLATES:
            unusable[path.name] = f"comes after {MOST_TEMPLATES} other templates, which is too many"
            continue
        try:
            texts[path.name] = read_text(path, TEMPLATE_BYTES)
        except DocumentError as error:
            unusable[path.name] = error.findings[0].message
    return Templates(shown(folder.absolute()), texts, unusable)
