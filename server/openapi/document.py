"""The interface of the public port as an OpenAPI document, made from ``schemas/openapi.yaml``.

The file says what people write once: operations, schemas, and the codes of problems by name. What follows from that
is added here: the answer of each status with its codes, an example of each answer, and samples of code.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import yaml

from server.openapi.samples import samples
from server.shipped import SCHEMAS

SOURCE = SCHEMAS / "openapi.yaml"
METHODS = ("get", "put", "post", "delete", "patch")
TELLS_WHEN = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
# In C where libyaml is there: the other loader takes four times as long.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Json = dict[str, Any]


def document(version: str, tiers: Sequence[str]) -> Json:
    """The document of a server of this version that has these tiers. Takes some tenths of a second."""
    whole: Json = yaml.load(SOURCE.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - both are safe ones
    problems, groups = whole.pop("x-problems"), whole.pop("x-groups")
    whole["info"]["version"] = version
    whole["components"]["schemas"]["TierName"] |= {"enum": list(tiers), "examples": [tiers[0]]}
    schemas = whole["components"]["schemas"]
    for operation in operations(whole).values():
        codes, shape = _codes(operation, groups), operation.pop("x-shape", None)
        for status, known in sorted(_by_status(codes, problems).items()):
            answer = _problem_answer(status, known, problems, is_open=bool(set(groups["worker"]) & set(known)))
            if shape is not None:
                answer["content"]["application/json"] = {"schema": _ref("schemas", shape)}
            operation["responses"][str(int(status))] = _merged(operation["responses"].get(str(int(status))), answer)
        if "x-events" in operation:
            operation["responses"]["200"]["content"]["text/event-stream"] = _stream(operation["x-events"], schemas)
    for answer in _answers(whole):
        answer.setdefault("headers", {})["X-Request-Id"] = _ref("headers", "X-Request-Id")
        for content in answer.get("content", {}).values():
            if "example" not in content and "format" not in content["schema"]:
                content["example"] = _example(content["schema"], schemas)
    for (path, method), operation in operations(whole).items():
        operation["x-codeSamples"] = samples(method, path, operation, whole)
        operation.pop("x-events", None)
    return whole


def operations(whole: Json) -> dict[tuple[str, str], Json]:
    """The operations of a document, by path and method."""
    return {
        (path, method): item[method] for path, item in whole["paths"].items() for method in METHODS if method in item
    }


def _codes(operation: Json, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """All codes of an operation, those of its kind included. Takes ``x-codes`` out of it."""
    named = [*operation.pop("x-codes"), "every", *(["keyed"] if operation.get("security", True) else [])]

    def spread(names: Sequence[str]) -> Iterator[str]:
        for name in names:
            yield from spread(groups[name]) if name in groups else [name]

    return list(dict.fromkeys(spread(named)))


def _by_status(codes: Sequence[str], problems: Mapping[str, Json]) -> dict[HTTPStatus, list[str]]:
    found: dict[HTTPStatus, list[str]] = {}
    for code in codes:
        given = problems[code]["status"]
        for status in given if isinstance(given, list) else [given]:
            found.setdefault(HTTPStatus(status), []).append(code)
    return found


def _problem_answer(status: HTTPStatus, codes: Sequence[str], problems: Mapping[str, Json], *, is_open: bool) -> Json:
    one_of: Json = {"enum": list(codes)}
    code = {"anyOf": [one_of, {"type": "string", "pattern": "^[a-z_]{1,40}$"}]} if is_open else one_of
    example = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "code": codes[0],
        "detail": problems[codes[0]]["means"],
        "request_id": "9f2c61d0a4b37e58",
    }
    schema = {
        "allOf": [
            _ref("schemas", "Problem"),
            {"type": "object", "properties": {"status": {"const": int(status)}, "code": code}},
        ]
    }
    headers = {}
    if status in TELLS_WHEN:
        headers["Retry-After"] = _ref("headers", "Retry-After")
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = _ref("headers", "WWW-Authenticate")
    meanings = "\n".join(f"- `{one}`: {problems[one]['means']}" for one in codes)
    return {
        "description": f"{status.phrase}\n\n{meanings}",
        "headers": headers,
        "content": {"application/problem+json": {"schema": schema, "example": example}},
    }


def _stream(events: Mapping[str, Json], schemas: Mapping[str, Json]) -> Json:
    """The content of a stream. Its schema is that of an event, which is ``itemSchema`` from OpenAPI 3.2 on."""
    kinds: defaultdict[str, list[str]] = defaultdict(list)  # many ends have the same data
    for name, data in events.items():
        kinds[data["$ref"]].append(name)
    first, data = next(iter(events.items()))
    schema = {
        "description": "One event of the stream, as WHATWG's HTML Living Standard says. Its data is JSON in one line.",
        "type": "object",
        "required": ["event", "data"],
        "properties": {**{name: {"type": "string"} for name in ("id", "event", "data")}, "retry": {"type": "integer"}},
        "oneOf": [
            {
                "properties": {
                    "event": {"enum": names},
                    "data": {
                        "type": "string",
                        "description": f"JSON, as the schema {ref.rpartition('/')[2]} says.",
                        "contentMediaType": "application/json",
                        "contentSchema": {"$ref": ref},
                    },
                },
            }
            for ref, names in kinds.items()
        ],
    }
    text = json.dumps(_example(data, schemas), separators=(",", ":"))
    return {"schema": schema, "example": {"id": "5f0c1b7e2a9d4c38", "event": first, "data": text}}


def _merged(given: Json | None, problem: Json) -> Json:
    """The answer of a status that the file describes too: it has the content of both."""
    if given is None:
        return problem
    return {
        "description": f"{given['description']}\n\n{problem['description']}",
        "headers": {**given.get("headers", {}), **problem["headers"]},
        "content": {**given["content"], **problem["content"]},
    }


def _answers(whole: Json) -> Iterator[Json]:
    yield from whole["components"]["responses"].values()
    for operation in operations(whole).values():
        yield from (answer for answer in operation["responses"].values() if "$ref" not in answer)


def _example(schema: Json, schemas: Mapping[str, Json]) -> Any:
    """An example of what the schema describes, put together from those of its parts. Raises ``LookupError``."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "examples" in schema:
        return schema["examples"][0]
    if "allOf" in schema:
        return {key: value for part in schema["allOf"] for key, value in _example(part, schemas).items()}
    if "oneOf" in schema:
        return _example(schema["oneOf"][0], schemas)
    if "items" in schema:
        return [_example(schema["items"], schemas)]
    return {name: _example(schema["properties"][name], schemas) for name in schema["required"]}


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}
