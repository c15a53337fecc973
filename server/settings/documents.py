"""Reads YAML documents and checks them with the JSON Schemas in ``schemas/``.

A document knows the file and line of each of its values. A finding therefore names file, line, JSON pointer (RFC 6901)
and the rule that was broken, beside a sentence.
"""

from __future__ import annotations

import json
import math
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
from server.shipped import SCHEMAS

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
NUMBER_CHARACTERS = 64  # Python takes quadratic time for longer ones, and refuses to print them

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
class Location:
    """The place of a value. ``line`` is 0 where the source has no lines."""

    file: str
    line: int


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


def pointer(*keys: str | int) -> str:
    """Return the JSON pointer that leads along ``keys`` from the root."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


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
        return data.decode()
    except UnicodeDecodeError as error:
        raise _unusable(file, 0, "yaml", "is not UTF-8 text") from error


def parse(text: str, file: str, limit: int = MAX_BYTES) -> Document:
    """Parse the YAML document in ``text``, of at most ``limit`` bytes.

    Only what JSON can express is accepted: keys are text and unique; there are no aliases, dates or infinities. Raises
    ``DocumentError``.
    """
    # surrogatepass, as the text of a flag may contain bytes that are not UTF-8.
    if len(text.encode("utf-8", "surrogatepass")) > limit:
        raise _unusable(file, 0, "size", f"is larger than {limit} bytes")
    try:
        return _Reading(text, file).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # PyYAML splits one of its sentences: "expected a single document in the stream", "but found another document".
        whole = (error.context, error.problem) if str(error.problem).startswith("but ") else (error.problem,)
        line, message = mark.line + 1 if mark else 0, ", ".join(map(str, whole))
    except yaml.YAMLError as error:
        line, message = 0, str(error).partition("\n")[0]
    raise _unusable(file, line, "yaml", message)


def _unusable(file: str, line: int, rule: str, message: str) -> DocumentError:
    return DocumentError([Finding(file=file, line=line, pointer="", rule=rule, message=message)])


class _Reading(yaml.SafeLoader):
    """Parses one text, and notes the location of each value."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text)
        self.file = file
        self.locations: dict[str, Location] = {}
        self._depth = 0

    def document(self) -> Document:
        node = self.get_single_node()
        return Document(self._value(node, "") if node else None, self.file, self.locations)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # By aliases within aliases, a few lines become gigabytes.
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(None, None, "aliases are not allowed", self.get_event().start_mark)  # type: ignore[no-untyped-call]
        if self._depth == MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(None, None, f"is nested more than {MAX_DEPTH} deep", mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _value(self, node: yaml.Node, at: str) -> Any:
        self.locations.setdefault(at, Location(self.file, node.start_mark.line + 1))
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return {self._key(key, at): self._value(value, at + pointer(key.value)) for key, value in node.value}
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self._value(item, at + pointer(index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _key(self, node: yaml.Node, at: str) -> str:
        if node.tag != "tag:yaml.org,2002:str":
            raise yaml.MarkedYAMLError(None, None, "a key must be text: put it in quotes", node.start_mark)
        place = at + pointer(node.value)
        if place in self.locations:  # PyYAML would silently take the last one
            raise yaml.MarkedYAMLError(None, None, f'the key "{node.value}" is there twice', node.start_mark)
        self.locations[place] = Location(self.file, node.start_mark.line + 1)
        return str(node.value)

    def _scalar(self, node: yaml.Node) -> Any:
        # NaN stands for every value that JSON does not have, such as a date or a binary: it is refused below.
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind in {"value", "merge"}:  # "=" and "<<", which are nothing but text to Helm, and so it writes them
            return node.value
        if kind in {"int", "float"} and len(node.value) > NUMBER_CHARACTERS:
            raise yaml.MarkedYAMLError(None, None, "is too long for a number: put text in quotes", node.start_mark)
        try:
            value = self.construct_object(node) if kind in {"str", "int", "float", "bool", "null"} else math.nan
        except (ValueError, LookupError):
            value = math.nan
        if isinstance(value, float) and not math.isfinite(value):
            raise yaml.MarkedYAMLError(None, None, "is not a value of JSON: put text in quotes", node.start_mark)
        return value


# YAML 1.1 requires a point in front of the exponent; JSON does not, and Go writes none.
_EXPONENT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+\Z")
_Reading.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def merge(base: Document, over: Document) -> Document:
    """Merge ``over`` into ``base`` as Helm does: mappings are merged, null deletes a key, other values replace."""
    value = _merged(base.value, {} if over.value is None else over.value)
    return Document(value, over.file, {**base.locations, **over.locations})


def _merged(base: Any, over: Any) -> Any:
    if not isinstance(over, dict):
        return over
    below = base if isinstance(base, dict) else {}
    return {
        key: _merged(below.get(key), over[key]) if key in over else below[key]
        for key in below | over
        if over.get(key, "") is not None
    }


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
