"""Reads YAML documents and checks them with the JSON Schemas in ``schemas/``.

A document knows the file and line of each of its values. A finding therefore names file, line, JSON pointer (RFC 6901)
and the rule that was broken, beside a sentence.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from server.settings.complaints import explained
from server.settings.reading import Location as Location
from server.settings.reading import Reading
from server.settings.reading import pointer as pointer
from server.shipped import SCHEMAS

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

MAX_BYTES = 1 << 20

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake in a document. ``line`` is 0 where there is none; an empty ``pointer`` means the whole document."""

    file: str
    line: int
    pointer: str
    rule: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(filter(None, (where, self.pointer, f"{self.message} ({self.rule})")))


class DocumentError(Exception):
    """A document cannot be used; ``findings`` lists its mistakes."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = tuple(findings)


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON value, and the locations of its parts by JSON pointer."""

    value: Any
    file: str
    locations: Mapping[str, Location] = field(repr=False)

    def location(self, pointer: str) -> Location:
        """Return the location of ``pointer``, or of the nearest part around it that has one."""
        while pointer and pointer not in self.locations:
            pointer = pointer.rpartition("/")[0]
        return self.locations.get(pointer, Location(self.file, 0))

    def finding(self, pointer: str, rule: str, message: str) -> Finding:
        """Return a finding at ``pointer``."""
        at = self.location(pointer)
        return Finding(file=at.file, line=at.line, pointer=pointer, rule=rule, message=message)


def shown(path: Path) -> str:
    """Return ``path`` relative to the working directory, if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def read(path: Path, limit: int = MAX_BYTES) -> Document:
    """Read the YAML document in the file ``path``, of at most ``limit`` bytes. Raises ``DocumentError``."""
    return parse(read_text(path, limit), shown(path), limit)


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """Return the text of the regular file ``path``, of at most ``limit`` bytes. Raises ``DocumentError``."""
    file = shown(path)
    try:
        # To open a pipe would wait for its writer.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise _unusable(file, 0, "file", "is not a regular file")
            data = stream.read(limit + 1)
    except OSError as error:
        raise _unusable(file, 0, "file", error.strerror or str(error)) from error
    if len(data) > limit:
        raise _unusable(file, 0, "size", f"is larger than {limit} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        message = "is UTF-16 text: save it as UTF-8" if utf_16 else "is not UTF-8 text"
        raise _unusable(file, 0, "yaml", message) from error


def parse(text: str, file: str, limit: int = MAX_BYTES, *, aliases: bool = False) -> Document:
    """Parse the YAML document in ``text``, of at most ``limit`` bytes.

    Only what JSON can express is accepted: keys are text and unique; there are no infinities, and a date is text. With
    ``aliases``, what an alias or a merge key (``<<``) stands for is put in its place, up to ``MOST_PARTS`` parts in
    all. Raises ``DocumentError``.
    """
    # surrogatepass, as the text of a flag may contain bytes that are not UTF-8.
    if len(text.encode("utf-8", "surrogatepass")) > limit:
        raise _unusable(file, 0, "size", f"is larger than {limit} bytes")
    try:
        reading = Reading(text, file, aliases)
        return Document(reading.value(), file, reading.locations)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # PyYAML splits one of its sentences: "expected a single document in the stream", "but found another document".
        whole = (error.context, error.problem) if str(error.problem).startswith("but ") else (error.problem,)
        line, message = mark.line + 1 if mark else 0, ", ".join(map(str, whole))
        if "'\\t'" in message:
            message = "has a tab where YAML wants spaces"
    except yaml.YAMLError as error:
        line, message = 0, str(error).partition("\n")[0]
    raise _unusable(file, line, "yaml", message)


def _unusable(file: str, line: int, rule: str, message: str) -> DocumentError:
    return DocumentError([Finding(file=file, line=line, pointer="", rule=rule, message=message)])


@cache
def schema(name: str) -> Schema:
    """Return the JSON Schema ``schemas/NAME.schema.json``."""
    loaded: Schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    return loaded


def resolve(root: Schema, part: Schema) -> Schema:
    """Return ``part`` of the schema ``root`` with its ``$ref``, to a definition in the same file, resolved."""
    if "$ref" not in part:
        return part
    definition = root["$defs"][part["$ref"].removeprefix("#/$defs/")]
    return {**resolve(root, definition), **part}  # what stands beside the $ref, such as a description, goes first


def filled(value: Any, name: str) -> Any:
    """Return ``value``, which the schema ``name`` accepts, with the schema's default for every key that is left out."""
    root = schema(name)

    def fill(value: Any, part: Schema) -> Any:
        if not isinstance(value, dict):
            return value
        known = {key: resolve(root, sub) for key, sub in part.get("properties", {}).items()}
        others = resolve(root, part.get("additionalProperties") or {})
        full = {key: fill(item, known.get(key, others)) for key, item in value.items()}
        for key, sub in known.items():
            if key not in full and "default" in sub:
                full[key] = sub["default"]
            elif key not in full and "properties" in sub:
                full[key] = fill({}, sub)
        return full

    return fill(value, root)


def validate(document: Document, name: str) -> list[Finding]:
    """Return what the schema ``name`` finds wrong with ``document``, in the order of its lines."""
    found = [
        document.finding(pointer(*keys), rule, message)
        for error in _validator(name).iter_errors(document.value)
        for keys, rule, message in explained(error)
    ]
    return sorted(found, key=lambda finding: (finding.line, finding.pointer))


@cache
def _validator(name: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator, ValidationError, validators

    def pattern(_validator: Any, expression: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
        # Python's $ also matches before a last newline; JSON Schema's does not.
        if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", expression), value):
            yield ValidationError("does not match")

    extended: type[Draft202012Validator] = validators.extend(Draft202012Validator, {"pattern": pattern})  # type: ignore[no-untyped-call]
    return extended(schema(name))
