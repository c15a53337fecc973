"""A model's folder on this machine: what ``model.json`` says of it, compared with the files that lie there."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tierserve.errors import TierserveError

RECORD = "model.json"
MOST_RECORD_BYTES = 16 * 1024 * 1024
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}"
_REFERENCE = re.compile(rf"({_WORD})@([0-9a-f]{{8}})")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of weights: its name in the model's folder, its size in bytes and its SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Described:
    """What a record says of a model; ``variants`` are words as ``onnx/int8``."""

    record: Mapping[str, Any]
    name: str
    version: str
    digest: str
    variants: tuple[str, ...]
    files: tuple[ModelFile, ...]

    @property
    def reference(self) -> str:
        """``NAME@VERSION``."""
        return f"{self.name}@{self.version}"

    @property
    def distinct(self) -> tuple[ModelFile, ...]:
        """The files, of those with the same bytes only one."""
        return tuple({file.sha256: file for file in self.files}.values())


def described(record: Mapping[str, Any]) -> Described:
    """Read a record. Raises ``ValueError``, ``TypeError`` or ``LookupError`` for one that no folder can have."""
    files = tuple(ModelFile(one["file"], int(one["bytes"]), one["sha256"]) for one in record["variants"])
    found = Described(
        record=record,
        name=record["name"],
        version=record["version"],
        digest=record["digest"],
        variants=tuple(f"{one['runtime']}/{one['name']}" for one in record["variants"]),
        files=files,
    )
    if not files:
        raise ValueError("it has no variant")
    if not _REFERENCE.fullmatch(found.reference):
        raise ValueError(f"{found.reference!r} is no NAME@VERSION")
    for file in files:
        if not _FILE.fullmatch(file.name) or file.name == RECORD:
            raise ValueError(f"{file.name!r} is no name of a file in its folder")
        if not _DIGEST.fullmatch(file.sha256):
            raise ValueError(f"{file.sha256!r} is no SHA-256")
    return found


def read(directory: Path) -> Described:
    """Read a model's folder, and compare sizes and checksums of its files (1 s for 1 GB). Raises ``TierserveError``."""
    record = directory / RECORD
    try:
        with record.open("rb") as stream:
            data = stream.read(MOST_RECORD_BYTES + 1)
        if len(data) > MOST_RECORD_BYTES:
            raise ValueError(f"it has more than {MOST_RECORD_BYTES} bytes")
        model = described(json.loads(data))
    except FileNotFoundError as error:
        raise TierserveError(f"there is no model in {directory}; {_see(directory)}") from error
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise TierserveError(
            f"{record} cannot be read as the record of a model ({error}); {_see(directory)}"
        ) from error
    for file in model.files:
        _compare(directory / file.name, file)
    return model


def _compare(path: Path, file: ModelFile) -> None:
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            digest = hashlib.file_digest(stream, "sha256").hexdigest() if size == file.size else ""
    except OSError as error:
        raise TierserveError(f"{path} cannot be read: {error.strerror}; {_again(path)}") from error
    if size != file.size:
        raise TierserveError(f"{path} has {size} bytes, and its record says {file.size}; {_again(path)}")
    if digest != file.sha256:
        raise TierserveError(f"{path} does not match the checksum in its record; {_again(path)}")


def _again(path: Path) -> str:
    return f"build the model again: tierserve model build SOURCE --output {path.parent.parent}"


def _see(directory: Path) -> str:
    return f"see which models there are: tierserve model list --models {directory.parent}"
