"""Tells that a JSON Schema accepts a value, as most are accepted: to import jsonschema takes longer than all the rest.

What is unknown here counts as not accepted, as what is wrong does. Then jsonschema decides, and says what is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sized
from typing import Any

Schema = Mapping[str, Any]

_NOTES = frozenset({"$defs", "$schema", "default", "description", "examples", "then", "title"})
"""Keywords that refuse nothing by themselves."""
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "null": type(None),
    "number": (int, float),
    "object": dict,
    "string": str,
}


def accepts(value: Any, root: Schema, part: Schema | None = None) -> bool:
    """Whether ``value`` is certainly right for ``part`` of the schema ``root``, or for all of it."""
    part = root if part is None else part
    return all(
        name in _NOTES or (name in _RULES and _RULES[name](value, wanted, part, root)) for name, wanted in part.items()
    )


def searched(expression: str, text: str) -> bool:
    """Whether a schema's pattern matches. Its $ is the end of the text; Python's also matches before a last newline."""
    return re.search(re.sub(r"\$$", r"\\Z", expression), text) is not None


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _same(value: Any, wanted: Any) -> bool:
    """Whether they are written alike, so that 1 is neither true nor 1.0; to JSON Schema it is the latter."""
    return json.dumps(value, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def _reference(value: Any, to: str, _part: Schema, root: Schema) -> bool:
    known: Schema = root.get("$defs", {})
    name = to.removeprefix("#/$defs/")
    return name in known and accepts(value, root, known[name])


def _condition(value: Any, condition: Schema, part: Schema, root: Schema) -> bool:
    """Only of the kind whose opposite is certain: whether it is this value, or another one of its type."""
    wanted = condition.get("const")
    certain = condition.keys() == {"const"} and type(value) is type(wanted) and not isinstance(value, list | dict)
    return certain and (value != wanted or accepts(value, root, part.get("then", {})))


def _properties(value: Any, known: Schema, _part: Schema, root: Schema) -> bool:
    return not isinstance(value, dict) or all(accepts(value[key], root, known[key]) for key in known if key in value)


def _patterns(value: Any, known: Schema, _part: Schema, root: Schema) -> bool:
    if not isinstance(value, dict):
        return True
    found = [(item, rule) for key, item in value.items() for text, rule in known.items() if searched(text, key)]
    return all(accepts(item, root, rule) for item, rule in found)


def _others(value: Any, rule: Any, part: Schema, root: Schema) -> bool:
    if not isinstance(value, dict):
        return True
    known, patterns = part.get("properties", {}), part.get("patternProperties", {})
    others = [key for key in value if key not in known and not any(searched(one, key) for one in patterns)]
    return all(rule is True or (isinstance(rule, dict) and accepts(value[key], root, rule)) for key in others)


def _dependent(value: Any, wanted: Mapping[str, list[str]], _part: Schema, _root: Schema) -> bool:
    return not isinstance(value, dict) or all(
        needed in value for key, names in wanted.items() if key in value for needed in names
    )


def _unique(value: Any, wanted: bool, _part: Schema, _root: Schema) -> bool:
    """Of lists of texts or of whole numbers; of others only if they cannot have two equal items."""
    if not wanted or not isinstance(value, list) or len(value) < 2:
        return True
    return {type(item) for item in value} in ({str}, {int}) and len(set(value)) == len(value)


def _size(kind: type[Sized], sign: int) -> Callable[[Any, int, Schema, Schema], bool]:
    return lambda value, wanted, _part, _root: not isinstance(value, kind) or sign * len(value) >= sign * wanted


def _number(sign: int) -> Callable[[Any, float, Schema, Schema], bool]:
    return lambda value, wanted, _part, _root: not _is(value, "number") or sign * value >= sign * wanted


_RULES: Mapping[str, Callable[[Any, Any, Schema, Schema], bool]] = {
    "$ref": _reference,
    "additionalProperties": _others,
    "const": lambda value, wanted, _part, _root: _same(value, wanted),
    "dependentRequired": _dependent,
    "enum": lambda value, wanted, _part, _root: any(_same(value, one) for one in wanted),
    "if": _condition,
    "items": lambda value, rule, _part, root: (
        not isinstance(value, list) or all(accepts(item, root, rule) for item in value)
    ),
    "maxItems": _size(list, -1),
    "maxLength": _size(str, -1),
    "maxProperties": _size(dict, -1),
    "maximum": _number(-1),
    "minItems": _size(list, 1),
    "minLength": _size(str, 1),
    "minProperties": _size(dict, 1),
    "minimum": _number(1),
    "pattern": lambda value, wanted, _part, _root: not isinstance(value, str) or searched(wanted, value),
    "patternProperties": _patterns,
    "properties": _properties,
    "propertyNames": lambda value, rule, _part, root: (
        not isinstance(value, dict) or all(accepts(key, root, rule) for key in value)
    ),
    "required": lambda value, wanted, _part, _root: not isinstance(value, dict) or all(key in value for key in wanted),
    "type": lambda value, wanted, _part, _root: any(
        _is(value, kind) for kind in ([wanted] if isinstance(wanted, str) else wanted)
    ),
    "uniqueItems": _unique,
}
