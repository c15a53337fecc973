"""The folder of models on this machine, which may contain their records alone, and what a record says."""

from __future__ import annotations

import json
import re
import shlex
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.settings.records import ModelChoice, Tier

RECORD, RECORD_BYTES = "model.json", 16 * 1024 * 1024
DEFAULTS = ("tf_efficientnet_lite0", "tf_efficientnet_lite2")
"""The models that a build makes when it is given no source."""

_VERSION = re.compile("[0-9a-f]{8}")


class NoModel(Exception):
    """There is no such model, or it cannot be served; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One file of weights."""

    runtime: str
    name: str
    bytes: int
    """The size of the file."""
    sha256: str
    measured: Mapping[str, float | None] = field(hash=False)
    """How it did when it was built: see ``model.description.Measured``; None is unknown."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a model's ``model.json`` says."""

    name: str
    version: str
    digest: str
    """SHA-256 of what is served, hexadecimal."""
    architecture: str
    width: int
    """Of its input, in pixels."""
    height: int
    labels: tuple[str, ...]
    """The name of each class, by class number; any Unicode."""
    variants: tuple[Variant, ...]

    @classmethod
    def parse(cls, text: bytes | str) -> Record:
        """Read the text of a ``model.json``. Raises ``ValueError``, ``KeyError``, ``TypeError``, ``RecursionError``."""
        fields: Any = json.loads(text)
        preprocessing = fields["preprocessing"]
        return cls(
            name=_text(fields["name"]),
            version=_text(fields["version"]),
            digest=_text(fields["digest"]),
            architecture=_text(fields["architecture"]),
            width=int(preprocessing["width"]),
            height=int(preprocessing["height"]),
            labels=tuple(_text(label) for label in fields["labels"]),
            variants=tuple(_variant(variant) for variant in fields["variants"]),
        )

    @property
    def reference(self) -> str:
        """``NAME@VERSION``, which names exactly this model."""
        return f"{self.name}@{self.version}"

    def variant(self, runtime: str, name: str) -> Variant | None:
        """The variant of this name for this runtime."""
        return next((one for one in self.variants if (one.runtime, one.name) == (runtime, name)), None)


class Models:
    """Reads records anew only when their files have changed. One thread at a time may use it.

    ``image``: these are the records of the models in the workers' image, where nobody can build one.
    """

    def __init__(self, folder: Path, *, image: bool = False) -> None:
        self._folder, self._image = folder, image
        self._kept: dict[str, tuple[tuple[int, ...], Record]] = {}

    def read(self, reference: str) -> Record:
        """The record of one model. Raises ``NoModel``."""
        file = self._folder / reference / RECORD
        try:
            status = file.stat()
            mark = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            kept = self._kept.get(reference)
            if kept is not None and kept[0] == mark:
                return kept[1]
            record = _read(file, status.st_mode)
        except (FileNotFoundError, NotADirectoryError) as error:
            place = "the workers' image" if self._image else self._folder
            raise NoModel(f"{place} has no {reference}{self._instead(reference) or self._build(reference)}") from error
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise NoModel(f"{file} cannot be read ({error}){self._build(reference)}") from error
        self._kept[reference] = mark, record
        return record

    def keep_only(self, references: Collection[str]) -> None:
        """Forget the records that were read by other names."""
        self._kept = {reference: kept for reference, kept in self._kept.items() if reference in references}

    def _instead(self, reference: str) -> str:
        name, _, word = reference.partition("@")
        others = sorted(path.parent.name for path in self._folder.glob(f"{name}@*/{RECORD}"))
        if word and others:
            return f", but {', '.join(others)}: name one of them in model.name of the tier"
        return ""

    def _build(self, reference: str) -> str:
        if self._image:
            return ""
        name, _, word = reference.partition("@")
        # A version follows from what is built; it cannot be asked for.
        tag = f" --tag {word}" if word and not _VERSION.fullmatch(word) else ""
        source = "" if reference in DEFAULTS else f" SOURCE --name {name}{tag}"
        return f". Build it: tierserve model build{source} --output {shlex.quote(str(self._folder))}"


def _read(file: Path, mode: int) -> Record:
    if not stat.S_ISREG(mode):
        raise ValueError("it is no file")
    with file.open("rb") as opened:
        data = opened.read(RECORD_BYTES + 1)
    if len(data) > RECORD_BYTES:
        raise ValueError(f"it has more than {RECORD_BYTES} bytes")
    return Record.parse(data)


def _variant(fields: Any) -> Variant:
    return Variant(
        runtime=_text(fields["runtime"]),
        name=_text(fields["name"]),
        bytes=int(fields["bytes"]),
        sha256=_text(fields["sha256"]),
        measured={name: value for name, value in fields["measured"].items() if isinstance(value, int | float | None)},
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def lacking(record: Record, tier: Tier) -> str:
    """Say that the model has not the variant that the tier wants, and what to set; empty if it has it."""
    wanted: ModelChoice = tier.model
    if record.variant(wanted.runtime, wanted.variant):
        return ""
    same = [one.name for one in record.variants if one.runtime == wanted.runtime]
    others = ", ".join(f"{one.name} ({one.runtime})" for one in record.variants)
    lacks = f"{record.reference} has no {wanted.variant} for the runtime {wanted.runtime}"
    key = f"--set tiers.{tier.name}.model"
    if same:
        return f"{lacks}, only {', '.join(same)}: {key}.variant={same[0]}"
    if record.variants:
        first = record.variants[0]
        return f"{lacks}, only {others}: {key}.runtime={first.runtime} {key}.variant={first.name}"
    return f"{lacks}, and nothing else"
