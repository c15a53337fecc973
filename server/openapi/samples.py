"""How an operation is asked with curl, with Python and its standard library, and in JavaScript."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

ORIGIN = "http://localhost:8080"  # the page that shows the samples puts its own here
SECONDS = 90  # more than a request may wait for a result
KEY = "tsk_..."
LINE = 100  # characters, after which a command goes on in another line
PICTURE, PICTURE_TYPE = "cat.jpg", "image/jpeg"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a sample asks. ``events`` are those of a stream; an answer that is no stream has none.

    Where an operation takes no picture as it is, the sample ``sends`` the example of its JSON.
    """

    method: str
    url: str
    sends_picture: bool
    sends: Json | None
    headers: Mapping[str, str]
    events: tuple[str, ...]
    is_json: bool


def samples(method: str, path: str, operation: Json, whole: Json) -> list[Json]:
    """The samples of one operation of a document, as its ``x-codeSamples``."""
    asked = _asked(method, path, operation, whole)
    return [
        {"lang": "Shell", "label": "curl", "source": _curl(asked)},
        {"lang": "Python", "label": "Python", "source": _python(asked)},
        {"lang": "JavaScript", "label": "JavaScript", "source": _javascript(asked)},
    ]


def _asked(method: str, path: str, operation: Json, whole: Json) -> _Asked:
    query: list[tuple[str, str]] = []
    for given in [*whole["paths"][path].get("parameters", []), *operation.get("parameters", [])]:
        parameter = _resolved(given, whole)
        schema = _resolved(parameter["schema"], whole)
        value = parameter.get("example", schema.get("examples", [None])[0])
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", quote(str(value), safe="@"))
        elif parameter["in"] == "query" and parameter.get("required"):
            query += [(parameter["name"], str(one)) for one in value]
    headers = {}
    taken = _resolved(operation.get("requestBody", {}), whole).get("content", {})
    sends = None
    if sends_picture := any(kind.startswith("image/") for kind in taken):
        headers["Content-Type"] = PICTURE_TYPE
    elif taken:
        headers["Content-Type"] = "application/json"
        sends = _resolved(taken["application/json"]["schema"], whole)["examples"][0]
    if operation.get("security"):
        headers["Authorization"] = f"Bearer {KEY}"
    content = _resolved(operation["responses"]["200"], whole)["content"]
    return _Asked(
        method=method.upper(),
        url=f"{ORIGIN}{path}{'?' if query else ''}{urlencode(query)}",
        sends_picture=sends_picture,
        sends=sends,
        headers=headers,
        events=tuple(operation.get("x-events", ())),
        is_json="application/json" in content,
    )


def _resolved(part: Json, whole: Json) -> Json:
    if "$ref" not in part:
        return part
    found = whole
    for key in part["$ref"].removeprefix("#/").split("/"):
        found = found[key]
    return found


def _curl(asked: _Asked) -> str:
    words = ["curl"]
    if asked.events:
        words.append("--no-buffer")
    if asked.method not in ("GET", "POST"):
        words.append(f"--request {asked.method}")
    words += [f"--header '{name}: {value}'" for name, value in asked.headers.items()]
    if asked.sends_picture:
        words.append(f"--data-binary @{PICTURE}")
    if asked.sends is not None:
        words.append(f"--data '{json.dumps(asked.sends)}'")
    line = " ".join([*words, f"'{asked.url}'"])
    return line if len(line) <= LINE else " \\\n  ".join([" ".join(words), f"'{asked.url}'"])


def _python(asked: _Asked) -> str:
    imports = ["import json"] if asked.is_json else []
    begin: list[str] = []
    given = [f'    "{asked.url}"']
    if asked.sends_picture:
        imports.append("from pathlib import Path")
        given.append(f'    data=Path("{PICTURE}").read_bytes()')
    if asked.sends is not None:
        given.append(f"    data=json.dumps({asked.sends!r}).encode()")
    if asked.headers:
        given.append(f"    headers={json.dumps(asked.headers)}")
    if asked.method not in ("GET", "POST"):
        given.append(f'    method="{asked.method}"')
    imports.append(f"from urllib.request import {'Request, ' if len(given) > 1 else ''}urlopen")
    if len(given) > 1:
        begin = ["request = Request(", *(f"{one}," for one in given), ")"]
    what = "request" if begin else given[0].strip()
    if asked.events:
        ends = ["    for line in answer:", '        print(line.decode(), end="")']
    else:
        ends = ["    print(json.load(answer))" if asked.is_json else "    print(answer.read().decode())"]
    return "\n".join([*imports, "", *begin, f"with urlopen({what}, timeout={SECONDS}) as answer:", *ends])


def _javascript(asked: _Asked) -> str:
    if asked.events:
        return "\n".join(
            [
                f'const stream = new EventSource("{asked.url}");',
                f"for (const name of {json.dumps(asked.events)}) {{",
                "  stream.addEventListener(name, (event) => console.log(name, JSON.parse(event.data)));",
                "}",
            ]
        )
    lines, options = [], []
    if asked.method != "GET":
        options.append(f'  method: "{asked.method}",')
    if asked.headers:
        options.append(f"  headers: {json.dumps(asked.headers)},")
    if asked.sends_picture:
        lines.append('const picture = document.querySelector("input[type=file]").files[0];')
        options.append("  body: picture,")
    if asked.sends is not None:
        options.append(f"  body: JSON.stringify({json.dumps(asked.sends)}),")
    call = f'const answer = await fetch("{asked.url}"'
    lines += [f"{call}, {{", *options, "});"] if options else [f"{call});"]
    return "\n".join([*lines, f"console.log(await answer.{'json' if asked.is_json else 'text'}());"])
