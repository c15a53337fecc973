"""``--set a.b.c=v`` flags, read as the documents that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from server.settings import documents
from server.settings.documents import Document, DocumentError, Finding, Location, Schema, pointer


def override(flag: str) -> Document:
    """The document that ``a.b.c=v`` stands for: text where the schema takes text, else what YAML reads.

    Raises ``DocumentError``.
    """
    path, equals, text = flag.partition("=")
    keys = path.split(".")
    source = f"--set {flag}"
    if not equals or not all(keys):
        raise DocumentError([Finding(source, 0, "", "override", "must look like server.port=8080")])
    value: Any = text
    if text == "null" or (text and "string" not in _kinds(keys)):
        with suppress(DocumentError):
            value = documents.parse(text, source).value
    for key in reversed(keys):
        value = {key: value}
    locations = {pointer(*keys[:depth]): Location(source, 0) for depth in range(len(keys) + 1)}
    return Document(value, source, locations)


def _kinds(keys: Sequence[str]) -> Sequence[str]:
    """What kinds of value the schema takes at ``keys``; none where it knows no such key."""
    root = documents.schema("values")
    part: Schema = root
    for key in keys:
        part = documents.resolve(root, part.get("properties", {}).get(key) or part.get("additionalProperties") or {})
    kinds = part.get("type", "string" if "enum" in part else ())
    return [kinds] if isinstance(kinds, str) else list(kinds)
