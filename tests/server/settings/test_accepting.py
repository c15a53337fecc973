"""What is accepted without jsonschema is what jsonschema accepts, and the shipped settings are."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.settings import documents
from server.settings.accepting import Schema, accepts
from server.settings.render import SAMPLE_RUN, SAMPLE_URL, Renderer
from server.settings.sources import Files
from server.settings.values import load, merged

VALUES: Any = merged(Files().read())[0].value
JOB: Any = Renderer().job(load().tiers["free"], SAMPLE_RUN, SAMPLE_URL)
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    1.0,
    -1,
    2.5,
    10**9,
    "",
    "x",
    "x\n",
    "Bad Name",
    "a" * 5000,
    [],
    ["x", "x"],
    [1, 1],
    {},
    {"x": 1},
)


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield at
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ()):
        yield from places(inner, (*at, key))


def changed(value: Any, at: tuple[str | int, ...], new: Any, *, add: bool) -> Any:
    """``value`` with ``new`` at a place, or under a new key there, or at the end of the list there."""
    if not at and not (add and isinstance(value, dict | list)):
        return new
    whole = copy.deepcopy(value)
    here = whole
    for key in at if add else at[:-1]:
        here = here[key]
    if not add:
        here[at[-1]] = new
    elif isinstance(here, dict):
        here["new"] = new
    elif isinstance(here, list):
        here.append(new)
    return whole


@given(st.data())
@pytest.mark.parametrize(("name", "right"), [("values", VALUES), ("job", JOB)])
def test_nothing_is_accepted_that_jsonschema_refuses(name: str, right: Any, data: st.DataObject) -> None:
    at = data.draw(st.sampled_from(list(places(right))))
    value = changed(right, at, data.draw(st.sampled_from(ODD)), add=data.draw(st.booleans()))
    if accepts(value, documents.schema(name)):
        assert list(documents._validator(name).iter_errors(value)) == []


@pytest.mark.parametrize(("name", "right"), [("values", VALUES), ("job", JOB)])
def test_what_is_shipped_is_accepted(name: str, right: Any) -> None:
    assert accepts(right, documents.schema(name))


SCHEMAS: list[tuple[Schema, list[Any], list[Any]]] = [
    ({"type": "integer"}, [1, -3], [True, "1", None, 1.5]),
    ({"type": ["number", "null"]}, [1, 1.5, None], [True, "1"]),
    ({"const": {"a": [1]}}, [{"a": [1]}], [{"a": [True]}, {"a": []}]),
    ({"enum": ["a", 1]}, ["a", 1], [True, "b"]),
    ({"pattern": "^a$"}, ["a", 1], ["ba"]),
    ({"minimum": 1, "maximum": 2}, [1, 2, "x"], [0.5, 3]),
    ({"minLength": 1, "maxLength": 2}, ["é", "ab", 5], ["", "abc"]),
    ({"items": {"type": "string"}, "minItems": 1, "maxItems": 2}, [["a"], "x"], [[], [1], ["a", "b", "c"]]),
    ({"uniqueItems": True}, [[1, 2], ["a"], [{}], "aa"], [["a", "a"], [1, 1], [{}, {}], [1, True, 1]]),
    ({"required": ["a"], "minProperties": 2, "maxProperties": 2}, [{"a": 1, "b": 2}, 1], [{"b": 1, "c": 2}, {"a": 1}]),
    ({"properties": {"a": {"type": "null"}}, "additionalProperties": False}, [{"a": None}, {}], [{"a": 1}, {"b": 1}]),
    ({"patternProperties": {"^a": {"const": 0}}, "additionalProperties": False}, [{"ab": 0}], [{"ab": 1}, {"b": 0}]),
    ({"additionalProperties": {"type": "null"}}, [{"a": None}], [{"a": 1}]),
    ({"propertyNames": {"maxLength": 1}}, [{"a": 1}, 1], [{"ab": 1}]),
    ({"dependentRequired": {"a": ["b"]}}, [{"a": 1, "b": 2}, {"c": 1}], [{"a": 1}]),
    ({"if": {"const": False}, "then": {"const": 0}}, [True], [False]),
    ({"$ref": "#/$defs/one", "$defs": {"one": {"const": 1}}}, [1], [2]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "right", "wrong"), SCHEMAS)
def test_each_rule_accepts_what_is_right_and_nothing_else(schema: Schema, right: list[Any], wrong: list[Any]) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    assert [(accepts(value, schema), validator.is_valid(value)) for value in right] == [(True, True)] * len(right)
    assert [(accepts(value, schema), validator.is_valid(value)) for value in wrong] == [(False, False)] * len(wrong)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"format": "uri"}, "http://x"),
        ({"if": {"minimum": 0}, "then": {}}, 1),
        ({"$ref": "other.json"}, 1),
        ({"enum": [1]}, 1.0),
    ],
)  # fmt: skip
def test_what_is_not_known_is_left_to_jsonschema(schema: Schema, value: Any) -> None:
    assert not accepts(value, schema)
