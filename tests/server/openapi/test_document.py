"""The description of the interface is valid, and says what the code does: routes, limits, codes and types."""

from __future__ import annotations

import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

from server.http.base import BaseHandler
from server.http.public import events, listing, preference, told
from server.http.routes import PUBLIC
from server.intake import gathering, wishes
from server.openapi.document import METHODS, SOURCE
from server.queue import Status
from tests.openapi import described
from tests.running import ROOT, Answer

HTTP_FOLDER = ROOT / "server" / "http"
SOURCED = yaml.safe_load(SOURCE.read_text())
MADE = re.compile(
    r'(?:Problem|_problem|_bad|Obstacle|KeyRefused|ImageError)\(\s*(?:(?:HTTPStatus\.)?(\w+),\s*)?"(\w+)"'
)
# What only the internal port says.
OTHERS = {"bad_admin_token", "bad_worker_token", "worker_token_unchecked"}


def test_it_is_an_openapi_document_before_and_after_it_is_completed() -> None:
    for whole in (SOURCED, described().whole):
        OpenAPIV31SpecValidator(whole).validate()


def test_no_comma_cuts_a_text_in_two() -> None:
    cut = [name for name in _names(SOURCED) if " " in name]
    assert cut == []  # in YAML's braces the text after a comma is another member, if it is not quoted


def _names(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from map(str, part)
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _names(each)


def test_what_only_completes_it_is_not_served() -> None:
    served = str(described().whole)
    assert [key for key in ("x-codes", "x-shape", "x-groups", "x-problems") if key in served] == []


def test_every_example_is_as_its_schema_says() -> None:
    assert described().check_examples() > 100


def test_every_route_and_every_method_is_described() -> None:
    routes = {
        (route, method)
        for route, handler in PUBLIC.items()
        for method in METHODS
        if getattr(handler, method) is not getattr(BaseHandler, method)
    }
    assert routes == set(described().operations)


def test_every_operation_has_a_name_of_its_own_and_what_people_need() -> None:
    names = [operation["operationId"] for operation in described().operations.values()]
    assert len(set(names)) == len(names)
    for (path, method), operation in described().operations.items():
        assert operation["summary"], path
        assert {sample["lang"] for sample in operation["x-codeSamples"]} == {"Shell", "Python", "JavaScript"}
        given = [*described().whole["paths"][path].get("parameters", []), *operation.get("parameters", [])]
        named = {one["name"] for one in map(described().resolved, given) if one["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path)), (path, method)


def test_the_limits_are_those_of_the_code() -> None:
    schemas = described().whole["components"]["schemas"]
    asked = described().whole["components"]["parameters"]["topK"]["schema"]
    form, text = schemas["PictureForm"]["properties"], schemas["PictureTexts"]["properties"]["parameters"]["properties"]
    for top_k in (asked, form["top_k"], text["top_k"]):
        assert (top_k["minimum"], top_k["maximum"]) == (1, gathering.TOP_K_MOST)
    assert asked["default"] == gathering.TOP_K_DEFAULT
    limit = _parameter("/v1/predictions", "get", "limit")["schema"]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, listing.MOST, listing.USUAL)
    wait = _parameter("/v1/predictions/{id}", "get", "wait")["schema"]
    assert (wait["minimum"], wait["maximum"]) == (0, preference.LONGEST_WAIT)
    assert (
        f"{preference.LONGEST_WAIT:g} s at most"
        in _parameter("/img-classification/{tier}", "post", "Prefer")["description"]
    )
    key = _parameter("/img-classification/{tier}", "post", "Idempotency-Key")["schema"]
    assert (key["minLength"], key["maxLength"]) == (1, wishes.KEY_LONGEST)
    assert _parameter("/v1/predictions/events", "get", "id")["schema"]["maxItems"] == events.MOST_IDS
    jobs = schemas["TierState"]["properties"]["jobs"]
    assert jobs["maxItems"] == told.JOBS
    assert schemas["Status"]["enum"] == list(Status)
    assert schemas["PredictionList"]["properties"]["predictions"]["maxItems"] == listing.MOST


def test_the_codes_of_problems_are_those_of_the_code() -> None:
    known = SOURCED["x-problems"]
    files = [path for part in ("server", "model") for path in (ROOT / part).rglob("*.py")]
    said = "\n".join(path.read_text() for path in files if path.parent.name != "openapi")
    # What operators and workers are told is no part of this interface.
    source = "\n".join(path.read_text() for path in files if path.parent.name not in ("internal", "models", "openapi"))
    made = {code: status for status, code in MADE.findall(source)}
    assert len(made) > 40
    assert made.keys() - known.keys() - OTHERS == set()
    assert [code for code in known if f'"{code}"' not in said and code != "internal_error"] == []
    for code, status in made.items():
        if status in HTTPStatus.__members__ and code in known:
            assert HTTPStatus[status] == known[code]["status"], code


def test_each_code_of_a_module_of_handlers_is_one_of_its_operations() -> None:
    """What the module says, and the helpers that it imports, one of its routes can be answered with."""
    told: defaultdict[str, set[str]] = defaultdict(set)
    for route, handler in PUBLIC.items():
        for kind in handler.__mro__:
            if kind.__module__.startswith(("server.http.public.", "server.http.facades.")):
                told[kind.__module__] |= _codes(route)
    for name, codes in told.items():
        text = Path(inspect.getfile(sys.modules[name])).read_text()
        named = re.findall(r"from server\.http\.(public|facades)\.(\w+) import", text)
        helpers = [HTTP_FOLDER / package / f"{one}.py" for package, one in named]
        texts = [text, *(path.read_text() for path in helpers if path.stem != "base")]
        said = {code for one in texts for _, code in MADE.findall(one)}
        assert said - OTHERS - codes == set(), name


def test_every_code_is_one_of_some_operation() -> None:
    told = set().union(*(_codes(path) for path in described().whole["paths"]))
    assert SOURCED["x-problems"].keys() == told


def _parameter(path: str, method: str, name: str) -> dict[str, Any]:
    given = described().operations[path, method]["parameters"]
    (found,) = [one for one in map(described().resolved, given) if one["name"] == name]
    return found


def _codes(path: str) -> set[str]:
    """The codes of all operations of a path."""
    found: set[str] = set()
    for method in METHODS:
        operation = described().operations.get((path, method), {"responses": {}})
        for answer in map(described().resolved, operation["responses"].values()):
            for part in (
                answer.get("content", {}).get("application/problem+json", {}).get("schema", {}).get("allOf", [])
            ):
                code = part.get("properties", {}).get("code", {})
                found |= {*code.get("enum", []), *code.get("anyOf", [{}])[0].get("enum", [])}
    return found


def test_what_is_not_described_is_found() -> None:
    fine = Answer(200, {"Content-Type": "application/json", "X-Request-Id": "1"}, b'{"status": "ok"}')
    described().check(fine, "GET", "/healthz")
    for wrong in (
        replace(fine, body=b'{"status": "ill"}'),
        replace(fine, body=b'{"status": "ok", "more": 1}'),
        replace(fine, body=b"{}"),
        replace(fine, status=201),
        replace(fine, headers={"Content-Type": "application/json"}),
        replace(fine, headers={"Content-Type": "text/plain", "X-Request-Id": "1"}),
    ):
        with pytest.raises(AssertionError):
            described().check(wrong, "GET", "/healthz")
    described().check_event("drain", {"detail": "x"}, "/v1/tiers/events")
    for name, data in (("drain", {}), ("drain", {"detail": "x", "more": 1}), ("queued", {"detail": "x"})):
        with pytest.raises(AssertionError):
            described().check_event(name, data, "/v1/tiers/events")


def test_a_member_of_a_schema_that_is_put_together_is_found_too() -> None:
    answer = described().operations["/v1/predictions/{id}", "get"]["responses"]["200"]
    prediction = answer["content"]["application/json"]["example"]
    described().check_event("succeeded", prediction, "/v1/predictions/events")
    with pytest.raises(AssertionError, match="more"):
        described().check_event("succeeded", {**prediction, "more": 1}, "/v1/predictions/events")


def test_every_answer_with_content_has_an_example_but_for_pictures() -> None:
    without = [
        (path, status, kind)
        for (path, _), operation in described().operations.items()
        for status, answer in operation["responses"].items()
        for kind, content in described().resolved(answer).get("content", {}).items()
        if "example" not in content and content["schema"].get("format") != "binary"
    ]
    assert without == []
