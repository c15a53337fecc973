"""Reads YAML documents and checks them with the JSON Schemas in ``schemas/``.

A document knows the file and line of each of its values. A finding therefore names file, line, JSON pointer (RFC 6901)
and the rule that was broken, beside a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from server.settings import reading
from server.settings.accepting import Schema as Schema
from server.settings.accepting import accepts, searched
from server.settings.complaints import explained
from server.settings.reading import Location as Location
from server.settings.reading import pointer as pointer
from server.settings.texts import MAX_BYTES, unusable
from server.settings.texts import DocumentError as DocumentError
from server.settings.texts import Finding as Finding
from server.settings.texts import read_text as read_text
from server.settings.texts import shown as shown
from server.shipped import SCHEMAS

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator


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


def read(path: Path, limit: int = MAX_BYTES) -> Document:
    """Read the YAML document in the file ``path``, of at most ``limit`` bytes. Raises ``DocumentError``."""
    return parse(read_text(path, limit), shown(path), limit)


def parse(text: str, file: str, limit: int = MAX_BYTES, *, aliases: bool = False) -> Document:
    """Parse the YAML document in ``text``, of at most ``limit`` bytes.

    Only what JSON can express is accepted: keys are text and unique; there are no infinities, and a date is text. With
    ``aliases``, what an alias or a merge key (``<<``) stands for is put in its place, up to ``MOST_PARTS`` parts in
    all. Raises ``DocumentError``.
    """
    # surrogatepass, as the text of a flag may contain bytes that are not UTF-8.
    if len(text.encode("utf-8", "surrogatepass")) > limit:
        raise unusable(file, 0, "size", f"is larger than {limit} bytes")
    try:
        value, locations = reading.read(text, file, aliases)
        return Document(value, file, locations)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # PyYAML splits one of its sentences: "expected a single document in the stream", "but found another document".
        whole = (error.context, error.problem) if str(error.problem).startswith("but ") else (error.problem,)
        line, message = mark.line + 1 if mark else 0, ", ".join(map(str, whole))
        if "'\\t'" in message:
            message = "has a tab where YAML wants spaces"
    except yaml.YAMLError as error:
        line, message = 0, str(error).partition("\n")[0]
    raise unusable(file, line, "yaml", message)


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
    if accepts(document.value, schema(name)):
        return []
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
        if isinstance(value, str) and not searched(expression, value):
            yield ValidationError("does not match")

    extended: type[Draft202012Validator] = validators.extend(Draft202012Validator, {"pattern": pattern})  # type: ignore[no-untyped-call]
    return extended(schema(name))
