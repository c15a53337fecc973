"""What the JSON body of a request must be."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any

import fastjsonschema

from server.problems import Problem, json_object
from server.shipped import SCHEMAS

DETAIL_LONGEST = 300  # the messages quote names from the body, which may be long


class Schema:
    """One definition of a file in ``schemas/``; ``code`` is the problem of a body that breaks it."""

    def __init__(self, file: str, definition: str, code: str) -> None:
        self._file, self._definition, self._code = file, definition, code

    def read(self, body: bytes | bytearray) -> Mapping[str, Any]:
        """The object in a body. Raises ``Problem`` with 400, or 422 with a JSON pointer (RFC 6901) to what is wrong."""
        found = json_object(body)
        try:
            self._validate(found)
        except fastjsonschema.JsonSchemaValueException as error:
            detail = error.message[:DETAIL_LONGEST]
            pointer = "".join(f"/{_escaped(part)}" for part in error.path[1:])
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, self._code, detail, pointer=pointer) from error
        return found

    @cached_property
    def _validate(self) -> Callable[[Mapping[str, Any]], object]:
        """Compiled, because it runs for every result: jsonschema takes ten times as long."""
        definitions = json.loads((SCHEMAS / self._file).read_text())["definitions"]
        validator: Callable[[Mapping[str, Any]], object] = fastjsonschema.compile(
            {"$ref": f"#/definitions/{self._definition}", "definitions": definitions}
        )
        return validator


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")[:DETAIL_LONGEST]
