"""Holds what a server answers against the description of its interface."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from server.openapi.document import document, operations
from tests.running import Answer

JSON = ("application/json", "application/problem+json")
FORMATS = FormatChecker(formats=())

Json = dict[str, Any]


@FORMATS.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


class Interface:
    """A described interface. What it does not describe, a member of an object included, is an ``AssertionError``."""

    def __init__(self, whole: Json) -> None:
        self.whole = whole
        self.operations = operations(whole)
        self._validators: dict[int, Draft202012Validator] = {}

    def route(self, target: str) -> str | None:
        """The path of the document that a request's target belongs to; literal ones go before those with values."""
        path = target.partition("?")[0]
        fitting: list[str] = [one for one in self.whole["paths"] if re.fullmatch(re.sub(r"{\w+}", "[^/]+", one), path)]
        return min(fitting, key=lambda one: one.count("{"), default=None)

    def operation(self, method: str, target: str) -> Json | None:
        """The operation that a request asks for; with ``HEAD`` that of ``GET``."""
        return self.operations.get((self.route(target) or "", "get" if method == "HEAD" else method.lower()))

    def check(self, answer: Answer, method: str, target: str) -> None:
        """Status, headers, type and body are those of the operation. Of streams it reads no events."""
        operation, what = self.operation(method, target), f"{method} {target} {answer.status}"
        assert operation is not None, f"{what} is no operation"
        assert str(answer.status) in operation["responses"], f"{what} is not described"
        described = self.resolved(operation["responses"][str(answer.status)])
        headers = {name.lower(): value for name, value in answer.headers.items()}
        for name, header in described["headers"].items():
            header = self.resolved(header)
            value = headers.get(name.lower())
            assert value is not None or not header.get("required"), f"{what} has no {name}"
            if value is not None:
                self._validate(int(value) if header["schema"]["type"] == "integer" else value, header["schema"], what)
        content = described.get("content", {})
        if method == "HEAD" or not content:
            assert not answer.body, what
            return
        kind = headers["content-type"].partition(";")[0]
        assert kind in content, f"{what} is {kind}, not {' or '.join(content)}"
        if kind in JSON:
            self._validate(answer.json, content[kind]["schema"], what)

    def check_event(self, name: str, data: Any, target: str) -> None:
        """The event is one of those that the operation describes, and so is its data."""
        content = self.resolved((self.operation("GET", target) or {"responses": {"200": {}}})["responses"]["200"])
        kinds = content.get("content", {}).get("text/event-stream", {}).get("schema", {}).get("oneOf", [])
        found = [kind["properties"] for kind in kinds if name in kind["properties"]["event"]["enum"]]
        assert found, f"{target} describes no event {name}"
        self._validate(data, found[0]["data"]["contentSchema"], f"{name} of {target}")

    def check_examples(self) -> int:
        """Every example of the document is as its schema says. Returns how many there are."""
        found = 0
        for part in _parts(self.whole):
            schema = part.get("schema", part)
            examples = [*part.get("examples", [])] if isinstance(part.get("examples"), list) else []
            if isinstance(part.get("examples"), dict):
                examples += [one["value"] for one in part["examples"].values() if "value" in one]
            if "example" in part:
                examples.append(part["example"])
            for example in examples:
                self._validate(example, schema, f"the example {json.dumps(example)[:100]}")
                found += 1
        return found

    def resolved(self, part: Json) -> Json:
        """The part that a ``$ref`` stands for."""
        if "$ref" not in part:
            return part
        found = self.whole
        for key in part["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        return found

    def _validate(self, value: Any, schema: Json, what: str) -> None:
        if id(schema) not in self._validators:
            self._validators[id(schema)] = Draft202012Validator(self._strict(schema), format_checker=FORMATS)
        errors = sorted(self._validators[id(schema)].iter_errors(value), key=lambda error: -len(error.path))
        assert not errors, f"{what}: " + "; ".join(f"{error.json_path}: {error.message[:300]}" for error in errors[:5])

    def _strict(self, schema: Any, *, whole: bool = True) -> Any:
        """The schema without ``$ref``, and without room for members that it does not name."""
        if isinstance(schema, list):
            return [self._strict(one) for one in schema]
        if not isinstance(schema, dict):
            return schema
        schema = self.resolved(schema)
        if "allOf" in schema:
            parts = [self._strict(one, whole=False) for one in schema["allOf"]]
            opened = any(one.get("additionalProperties") is True for one in parts)
            return {"allOf": parts} if opened else {"allOf": parts, "unevaluatedProperties": False}
        kinds = {"oneOf": [self._strict(one, whole="properties" not in schema) for one in schema.get("oneOf", [])]}
        strict = {
            key: {name: self._strict(one) for name, one in value.items()}
            if key == "properties"
            else value
            if key in ("examples", "enum", "required")
            else kinds.get(key) or self._strict(value)
            for key, value in schema.items()
        }
        if whole and "properties" in schema and "additionalProperties" not in schema:
            strict["additionalProperties"] = False
        return strict


@cache
def described(tiers: Sequence[str] = ("free", "premium")) -> Interface:
    """The interface of this code, for a server with these tiers."""
    return Interface(document("0", tiers))


def _parts(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        if not {"example", "examples"}.isdisjoint(value):
            yield value
        for key, one in value.items():
            if key not in ("example", "examples"):
                yield from _parts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _parts(one)
