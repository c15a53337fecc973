"""The folder of models on this machine: what is told about them, and what is wrong with those that the tiers name."""

from __future__ import annotations

import json
import re
import shlex
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.settings.records import ModelChoice, Tier

RECORD, RECORD_BYTES = "model.json", 16 * 1024 * 1024
DEFAULTS = ("tf_efficientnet_lite0", "tf_efficientnet_lite2")
"""The models that a build makes when it is given no source."""

_VERSION = re.compile("[0-9a-f]{8}")


class NoModel(Exception):
    """There is no such model, or its record cannot be read; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a model's ``model.json`` says."""

    name: str
    version: str
    labels: tuple[str, ...]
    """The name of each class, by class number; any Unicode."""
    variants: tuple[tuple[str, str], ...]
    """Runtime and name of each variant."""

    @property
    def reference(self) -> str:
        """``NAME@VERSION``, which names exactly this model."""
        return f"{self.name}@{self.version}"


class Models:
    """Reads records anew only when their files have changed. One thread at a time may use it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, tuple[tuple[int, ...], Record]] = {}

    def described(self, tiers: Iterable[Tier]) -> Mapping[str, Record]:
        """The records of the models that the tiers name, by that name; those that cannot be read are left out."""
        found = {}
        for reference in {tier.model.name for tier in tiers}:
            try:
                found[reference] = self.read(reference)
            except NoModel:
                continue
        self._kept = {reference: kept for reference, kept in self._kept.items() if reference in found}
        return found

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
            raise NoModel(f"{self._folder} has no {reference}{self._instead(reference)}") from error
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise NoModel(f"{file} cannot be read ({error}). {self._build(reference)}") from error
        self._kept[reference] = mark, record
        return record

    def complaints(self, tiers: Iterable[Tier]) -> dict[str, list[str]]:
        """What is wrong with the models that the tiers name: sentences, each with the names of the tiers it stops."""
        found: dict[str, list[str]] = {}
        for tier in tiers:
            try:
                sentence = _lacking(self.read(tier.model.name), tier)
            except NoModel as error:
                sentence = str(error)
            if sentence:
                found.setdefault(sentence, []).append(tier.name)
        return found

    def _instead(self, reference: str) -> str:
        name, _, word = reference.partition("@")
        others = sorted(path.parent.name for path in self._folder.glob(f"{name}@*/{RECORD}"))
        if word and others:
            return f", but {', '.join(others)}: name one of them in model.name of the tier"
        return f". {self._build(reference)}"

    def _build(self, reference: str) -> str:
        name, _, word = reference.partition("@")
        # A version follows from what is built; it cannot be asked for.
        tag = f" --tag {word}" if word and not _VERSION.fullmatch(word) else ""
        source = "" if reference in DEFAULTS else f" SOURCE --name {name}{tag}"
        return f"Build it: tierserve model build{source} --output {shlex.quote(str(self._folder))}"


def _read(file: Path, mode: int) -> Record:
    if not stat.S_ISREG(mode):
        raise ValueError("it is no file")
    with file.open("rb") as opened:
        data = opened.read(RECORD_BYTES + 1)
    if len(data) > RECORD_BYTES:
        raise ValueError(f"it has more than {RECORD_BYTES} bytes")
    fields: Any = json.loads(data)
    return Record(
        name=_text(fields["name"]),
        version=_text(fields["version"]),
        labels=tuple(_text(label) for label in fields["labels"]),
        variants=tuple((_text(variant["runtime"]), _text(variant["name"])) for variant in fields["variants"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _lacking(record: Record, tier: Tier) -> str:
    """Say that the model has not the variant that the tier wants, and what to set; empty if it has it."""
    wanted: ModelChoice = tier.model
    if (wanted.runtime, wanted.variant) in record.variants:
        return ""
    same = [name for runtime, name in record.variants if runtime == wanted.runtime]
    others = ", ".join(f"{name} ({runtime})" for runtime, name in record.variants)
    lacks = f"{record.reference} has no {wanted.variant} for the runtime {wanted.runtime}"
    key = f"--set tiers.{tier.name}.model"
    if same:
        return f"{lacks}, only {', '.join(same)}: {key}.variant={same[0]}"
    if record.variants:
        runtime, name = record.variants[0]
        return f"{lacks}, only {others}: {key}.runtime={runtime} {key}.variant={name}"
    return f"{lacks}, and nothing else"
