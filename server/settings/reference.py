"""Writes docs/configuration.md and chart/README.md: ``python -m server.settings.reference [--check]``.

They are made from the schema of the values and the rules between them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from server.settings import documents
from server.settings.documents import Schema
from server.settings.rules import book
from server.shipped import ROOT

PAGE, README = ROOT / "docs" / "configuration.md", ROOT / "chart" / "README.md"
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

`check`, `render` and `serve` take `--values` several times, and `--set`, `--set-string`, `--set-json`, `--set-file` and
`--set-literal` with Helm's syntax: `--set a.b=1,c[0]=x,d={{y,z}}`. A backslash stands before a comma or a point that
belongs to a name or a text. As in Helm, `--set` makes whole numbers, `true`, `false`, `null` and text. A number with a
point, such as 0.05, needs `--set-json`, and a text such as `1` needs `--set-string`. What Helm drops without a word,
such as the first value of a key that is there twice, is refused.

The server reads `server`, `worker`, `capacity`, `tiers` and `commonLabels`, on a laptop and in a cluster.
`jobTemplates` are added to the folder of Job templates, by the chart or by these commands. Only the chart reads the
other keys.

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

_README = f"""\
<!-- Made from chart/values.schema.json by `{COMMAND}`; edit the schema, not this page. -->

# tierserve

Image classification in tiers. Each tier has a namespace, a model, a quota and a durable queue of its own. One server
takes pictures over HTTP, and Jobs in the namespaces of the tiers classify them.

The chart needs Kubernetes 1.29 or later, and Helm 3 or 4; it is tried with Helm 3.22 and 4.3. Its images are built from
the repository that the chart lies in (docs/images.md), and `server.image` and `worker.image` name them.

    helm install tierserve chart --namespace tierserve --create-namespace --values my-values.yaml
    helm test tierserve --namespace tierserve --logs
    helm uninstall tierserve --namespace tierserve

The notes that `helm install` prints say how to send a first picture and how to make a first key. `helm uninstall`
leaves what must not be lost by mistake: the claim with the queue (unless `persistence.keep` is false), the Secret with
what keys are checked with, and the namespaces of the tiers.

`tierserve check --values my-values.yaml` finds what `helm upgrade` would refuse, and faults in Job templates, which
Helm cannot find.

## Values

In `tiers.NAME`, `NAME` stands for any name of a tier. The tiers that are there by default, `free` and `premium`, have
some other values in values.yaml; `tiers.NAME.enabled=false` leaves one out.

| Key | Default | Meaning |
|---|---|---|
"""


def readme() -> str:
    """Return the text of the chart's README."""
    root = documents.schema("values")
    rows = [f"| `{path}` | {default} | {meaning} |\n" for path, default, meaning in _leaves("", root, root)]
    return _README + "".join(rows)


def _leaves(path: str, part: Schema, root: Schema) -> Iterator[tuple[str, str, str]]:
    """Yield each key without keys of its own: its path, its default and what it means."""
    for key, sub in part.get("properties", {}).items():
        known, at = documents.resolve(root, sub), f"{path}.{key}".lstrip(".")
        if not _has_keys(known, root):
            yield at, _default(known, key in part.get("required", ())), known["description"]
        elif "properties" in known:
            yield from _leaves(at, known, root)
        else:
            yield from _leaves(f"{at}.NAME", documents.resolve(root, known["additionalProperties"]), root)


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
    return f"| `{key}` | {_value(part, root)} | {_default(part, required)} | {part['description']} |"


def _default(part: Schema, required: bool) -> str:
    return f"`{_plain(part['default'])}`" if "default" in part else "required" if required else "none"


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
    """Write the pages, or with ``--check`` only compare them; return the exit status."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write(f"usage: {COMMAND} [--check]\n")
        return 2
    pages = {PAGE: page(), README: readme()}
    if not arguments:
        for path, text in pages.items():
            path.write_text(text, encoding="utf-8")
    stale = [path for path, text in pages.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        sys.stderr.write(f"{documents.shown(path)} is stale: run {COMMAND}\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
