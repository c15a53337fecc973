"""Writes docs/configuration.md from the schema and the rules: ``python -m server.settings.reference [--check]``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from server.settings import documents
from server.settings.documents import Schema
from server.settings.rules import book
from server.shipped import ROOT

PAGE = ROOT / "docs" / "configuration.md"
COMMAND = "python -m server.settings.reference"

_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "object": "mapping",
}
_INTRODUCTION = f"""\
<!-- Made from chart/values.schema.json and chart/rules.yaml by `{COMMAND}`; edit those, not this page. -->

# Configuration

The defaults are in [chart/values.yaml](../chart/values.yaml). Put only the values that differ into your own file or on
the command line. They are merged with the defaults as Helm merges them, and `null` removes a key.

    python -m server check --values my-values.yaml
    python -m server serve --values my-values.yaml --set tiers.free.quota.cpu=3
    helm upgrade --install tierserve chart --namespace tierserve --create-namespace --values my-values.yaml

The server reads `server`, `worker` and `tiers`, on a laptop and in a cluster. Only the chart reads the other keys.

A quantity is a number with or without a suffix, as Kubernetes writes it: `900m` is 0.9, `2Gi` is 2 x 1024^3. An unknown
key or a wrong value is refused, with its file and line.
"""

_RULES = """\
## What must hold between values

`tierserve check`, a server that starts and `helm upgrade` refuse the same values with the same sentences, because all
read [chart/rules.yaml](../chart/rules.yaml). Types, ranges and unknown keys are the schema's, of which Helm and `check`
tell in words of their own. Job templates are programs (Jinja), which Helm cannot run: only `check` tells that one is
wrong, so run it before `helm upgrade`.

"""


def page() -> str:
    """Return the text of the page."""
    root = documents.schema("values")
    rules = "".join(f"- {rule['means']}\n" for rule in book()["rules"] if "means" in rule)
    sections = "\n".join(_sections("", root, root, set()))
    return f"{_INTRODUCTION}\n{sections}\n{_RULES}{rules}"


def _sections(path: str, part: Schema, root: Schema, shown: set[str]) -> Iterator[str]:
    """Yield a heading and a table of the plain keys of ``part``, then the same for each mapping in it.

    A part whose ``$ref`` is in ``shown`` was described before and is left out. The root's own keys come last.
    """
    known = {key: documents.resolve(root, sub) for key, sub in part.get("properties", {}).items()}
    plain = {key: sub for key, sub in known.items() if not _has_keys(sub, root)}
    rows = [_row(key, sub, key in part.get("required", ()), root) for key, sub in plain.items()]
    table = "\n".join(["| Key | Value | Default | Meaning |", "|---|---|---|---|", *rows, ""]) if rows else ""
    if path:
        yield f"## `{path}`\n\n{part['description']}\n"
        yield from filter(None, [table])
    for key, sub in known.items():
        at, item = f"{path}.{key}".lstrip("."), sub.get("items", {})
        if key not in plain:
            yield from _sections(at, sub, root, shown)
        elif _has_keys(documents.resolve(root, item), root) and item.get("$ref") not in shown:
            shown |= {item["$ref"]} if "$ref" in item else set()
            yield from _sections(f"{at}[]", documents.resolve(root, item), root, shown)
    if _has_keys(part, root) and "properties" not in part:
        yield from _sections(f"{path}.NAME", documents.resolve(root, part["additionalProperties"]), root, shown)
    if not path:
        yield f"## Keys by themselves\n\n{table}"


def _has_keys(part: Schema, root: Schema) -> bool:
    """Whether ``part`` is a mapping, or one of mappings, whose keys are known."""
    return "properties" in part or "properties" in documents.resolve(root, part.get("additionalProperties") or {})


def _row(key: str, part: Schema, required: bool, root: Schema) -> str:
    default = f"`{_plain(part['default'])}`" if "default" in part else "required" if required else "none"
    return f"| `{key}` | {_value(part, root)} | {default} | {part['description']} |"


def _value(part: Schema, root: Schema) -> str:
    if "enum" in part:
        return " or ".join(f"`{_plain(item)}`" for item in part["enum"])
    if part.get("$ref") == "#/$defs/quantity":
        kind = "quantity"
    elif "items" in part:
        kind = f"list of {documents.resolve(root, part['items'])['title'].lower()}s"
    else:
        kinds = [part["type"]] if isinstance(part["type"], str) else part["type"]
        kind = _KINDS[kinds[-1]]
    if "minimum" in part and kind != "quantity":
        kind += f", {part['minimum']} to {part['maximum']}" if "maximum" in part else f", at least {part['minimum']}"
    examples = " or ".join(f"`{_plain(example)}`" for example in part.get("examples", ()))
    return f"{kind}, such as {examples}" if examples else kind


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def main(arguments: list[str]) -> int:
    """Write the page, or with ``--check`` only compare it; return the exit status."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write(f"usage: {COMMAND} [--check]\n")
        return 2
    if arguments:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
            return 0
        sys.stderr.write(f"{documents.shown(PAGE)} is stale: run {COMMAND}\n")
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
