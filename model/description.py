"""The file ``model.json`` of a model directory: a build writes it, and every runtime reads it."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from model.geometry import Preprocessing

RECORD = "model.json"


class ModelError(Exception):
    """A model directory cannot be used; the message says why, and with which command to mend it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How a variant did on the pictures that judged it, and on the machine that built it."""

    agreement: float
    """Share of the pictures, 0 to 1, for which its best class is timm's."""
    sure_agreement: float | None
    """The same over the pictures that timm is sure of; None if there is none."""
    largest_difference: float
    """Largest difference from timm's output in any logit of any picture, with timm's own pixels."""
    top1: float | None
    """Share of the pictures whose true class is its best; None if the true classes are not known."""
    top5: float | None
    """Share of the pictures whose true class is among its best five."""
    ms: float | None
    """Median milliseconds from a picture's bytes to its probabilities, in one process of one thread; None if the
    machine that built the model has no library to run the variant with."""
    images_per_second: float | None
    """How many pictures such a process classifies in a second."""
    memory_mb: float | None
    """Peak memory of such a process, in MB (10^6 bytes)."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One file of weights."""

    runtime: str
    """The runtime that loads it: ``onnx`` or ``timm``."""
    name: str
    """``fp32`` or ``int8``."""
    file: str
    """File name inside the model's directory."""
    bytes: int
    """Size of the file."""
    sha256: str
    """Checksum of the file, hexadecimal."""
    measured: Measured
    """How it was judged."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model directory, as its ``model.json`` describes it."""

    path: Path
    """The directory."""
    name: str
    """What its owner calls it."""
    version: str
    """The first 8 hexadecimal digits of ``digest``."""
    digest: str
    """SHA-256 of what is served: architecture, labels, preprocessing and the checksums of all variants."""
    architecture: str
    """The name of its network in timm."""
    arguments: Mapping[str, Any]
    """What ``timm.create_model`` needs beside the name, such as ``num_classes``."""
    labels: tuple[str, ...]
    """A unique name for each class, by class number; any Unicode but control characters."""
    preprocessing: Preprocessing
    """How pictures are turned into its input."""
    variants: tuple[Variant, ...]
    """Its files of weights."""
    judged: Mapping[str, Any]
    """On which pictures it was judged, how timm itself did on them, and which classes are confused."""
    warnings: tuple[str, ...]
    """What its owner should know, a sentence each: for example why a variant was left out."""
    build: Mapping[str, Any]
    """How it was made: builder version, source and licence of the weights, versions of packages; for a default model
    also the SHA-256 of its weights and of its recorded graph."""

    @property
    def reference(self) -> str:
        """``NAME@VERSION``, which names exactly this model."""
        return f"{self.name}@{self.version}"

    def check_digest(self) -> None:
        """Raise ``ModelError`` unless the record's digest and version are those of what it describes."""
        found = digest_of(self.architecture, self.arguments, self.labels, self.preprocessing, self.variants)
        if (self.digest, self.version) != (found, found[:8]):
            raise ModelError(
                f"The record of {self.reference} was changed: its digest is {self.digest}, and that of what it "
                f"describes is {found}; build the model again: tierserve model build SOURCE --name {self.name}"
            )

    def variant(self, runtime: str, name: str) -> Variant:
        """Return the variant ``name`` for ``runtime``, or raise ``ModelError`` with the choices."""
        for variant in self.variants:
            if (variant.runtime, variant.name) == (runtime, name):
                return variant
        choices = ", ".join(f"{variant.runtime}/{variant.name}" for variant in self.variants)
        raise ModelError(f"Model {self.name} has no variant {runtime}/{name}; choose one of {choices}.")

    def checked_file(self, variant: Variant) -> Path:
        """Return the variant's file after comparing its checksum (10 ms for 18 MB), or raise ``ModelError``."""
        file = self.path / variant.file
        if file_digest(file) != variant.sha256:
            raise ModelError(f"{file} does not match its checksum; {_next_command(self.path)}")
        return file


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def digest_of(
    architecture: str,
    arguments: Mapping[str, Any],
    labels: Sequence[str],
    preprocessing: Preprocessing,
    variants: Sequence[Variant],
) -> str:
    """Return the SHA-256 of what is served, hexadecimal: where and when it was built changes nothing."""
    files = [(variant.runtime, variant.name, variant.sha256) for variant in variants]
    served = [architecture, dict(arguments), list(labels), preprocessing.fields(), files]
    return hashlib.sha256(json.dumps(served, sort_keys=True).encode()).hexdigest()


def read_model(directory: Path, only: tuple[str, str] | None = None) -> Model:
    """Read a model directory. Presence and sizes of its files are checked here, their checksums when they are loaded.

    Of the files, ``only`` that of one variant need be there: its runtime and its name.

    Raises ``ModelError``, whose message names a command that helps.
    """
    record = directory / RECORD
    try:
        model = parse_model(record.read_bytes(), directory)
    except FileNotFoundError as error:
        raise ModelError(f"There is no model in {directory}; {_next_command(directory)}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{record} cannot be read ({error}); {_next_command(directory)}") from error
    for variant in model.variants if only is None else (model.variant(*only),):
        file = directory / variant.file
        if not file.is_file() or file.stat().st_size != variant.bytes:
            raise ModelError(f"{file} is missing or incomplete; {_next_command(directory)}")
    return model


def find_model(models: Path, reference: str, digest: str, only: tuple[str, str]) -> Model | None:
    """Return the model with this digest if the folder ``models`` has it, under any of its names, with one variant.

    ``reference`` is NAME@VERSION; ``only`` is the variant's runtime and name. None: the folder has it not.
    """
    name = reference.partition("@")[0]
    for directory in (models / reference, models / name, *sorted(models.glob(f"{escape(name)}@*"))):
        with suppress(ModelError):
            model = read_model(directory, only)
            if model.digest == digest:
                return model
    return None


def parse_model(record: bytes, directory: Path) -> Model:
    """Return the model that a ``model.json`` describes and whose files lie in ``directory``. Raises ``ValueError``."""
    try:
        fields = json.loads(record)
        return Model(
            path=directory,
            name=fields["name"],
            version=fields["version"],
            digest=fields["digest"],
            architecture=fields["architecture"],
            arguments=fields["arguments"],
            labels=tuple(fields["labels"]),
            preprocessing=preprocessing_of(fields["preprocessing"]),
            variants=tuple(
                Variant(**{**variant, "measured": Measured(**variant["measured"])}) for variant in fields["variants"]
            ),
            judged=fields["judged"],
            warnings=tuple(fields["warnings"]),
            build=fields["build"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from error


def write_model(model: Model) -> None:
    """Write the record into the model's directory."""
    fields = dataclasses.asdict(model)
    del fields["path"]
    fields["preprocessing"] = model.preprocessing.fields()
    (model.path / RECORD).write_text(json.dumps(fields, indent=1, ensure_ascii=False) + "\n", "utf-8")


def preprocessing_of(fields: Mapping[str, Any]) -> Preprocessing:
    """Return what ``Preprocessing.fields`` told, also after JSON."""
    tuples: dict[str, Any] = {name: tuple(fields[name]) for name in ("mean", "std", "background") if name in fields}
    return Preprocessing(**{**fields, **tuples})


def _next_command(directory: Path) -> str:
    return f"see which models there are: tierserve model list --models {directory.parent}"
