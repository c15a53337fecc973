"""Turns the errors of JSON Schema into sentences that a person can act upon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_KINDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_SENTENCES = {
    "const": "must be {wanted}, not {value}",
    "minimum": "must be at least {wanted}, not {value}",
    "maximum": "must be at most {wanted}, not {value}",
    "minLength": "must have at least {wanted} characters",
    "maxLength": "must have at most {wanted} characters",
    "minItems": "must have at least {wanted} items",
    "maxItems": "must have at most {wanted} items",
    "minProperties": "must have at least {wanted} keys",
    "maxProperties": "must have at most {wanted} keys",
}


def explained(error: Any) -> Iterator[tuple[list[str | int], str, str]]:
    """Yield path, rule and a sentence for each mistake that ``error``, a ``ValidationError`` of jsonschema, reports."""
    keys, rule, wanted, value = list(error.absolute_path), str(error.validator), error.validator_value, error.instance
    examples = " or ".join(_json(example) for example in error.schema.get("examples", ()))
    # A rule about a key's name is reported at the mapping around it: add the key, which is the value that was judged.
    if "propertyNames" in error.absolute_schema_path:
        keys.append(value)
    if rule == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        for key in value.keys() - set(known):
            import difflib  # here, as it is needed only where something is wrong

            close = difflib.get_close_matches(key, known, n=1)
            hint = f'did you mean "{close[0]}"?' if close else f"known here: {', '.join(known)}"
            yield [*keys, key], rule, f'unknown key "{key}"; {hint}'
        return
    if rule == "required":
        message = error.message.replace("'", '"').replace("is a required property", "is missing")
    elif rule == "type":
        kinds = " or ".join(_KINDS[kind] for kind in ([wanted] if isinstance(wanted, str) else wanted))
        message = f"must be {kinds}, not {_json(value)}"
    elif rule == "enum":
        message = f"must be {' or '.join(map(_json, wanted))}, not {_json(value)}"
    elif rule == "pattern":
        message = f"must match {wanted}{examples and f' (as {examples} does)'}, not {_json(value)}"
    elif rule in _SENTENCES:
        message = _SENTENCES[rule].format(wanted=_json(wanted), value=_json(value))
    else:
        message = error.message
    yield keys, rule, message


def _json(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
