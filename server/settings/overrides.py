"""Turns ``--set a.b.c=v`` flags into documents."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from server.settings import documents
from server.settings.documents import Document, DocumentError, Finding, Location, Schema, pointer


def override(flag: str) -> Document:
    """Return the document that ``a.b.c=v`` stands for.

    The value is text where the schema accepts text and no list, else YAML. Raises ``DocumentError``.
    """
    path, equals, text = flag.partition("=")
    keys = path.split(".")
    source = f"--set {flag}"
    if not equals or not all(keys):
        message = "must look like server.port=8080"
        raise DocumentError([Finding(file=source, line=0, pointer="", rule="override", message=message)])
    value: Any = text
    # null removes a key, as in Helm, also where the schema accepts text.
    kinds = _kinds(keys)
    if text == "null" or (text and ("string" not in kinds or "array" in kinds)):
        with suppress(DocumentError):  # it stays text, and the schema says what is wrong with it
            value = documents.parse(text, source).value
    for key in reversed(keys):
        value = {key: value}
    locations = {pointer(*keys[:depth]): Location(source, 0) for depth in range(len(keys) + 1)}
    return Document(value, source, locations)


def _kinds(keys: Sequence[str]) -> Sequence[str]:
    """Return the types that the schema accepts at ``keys``; none where it has no such key."""
    root = documents.schema("values")
    part: Schema = root
    for key in keys:
        part = documents.resolve(root, part.get("properties", {}).get(key) or part.get("additionalProperties") or {})
    kinds = part.get("type", "string" if "enum" in part else ())
    return [kinds] if isinstance(kinds, str) else list(kinds)
