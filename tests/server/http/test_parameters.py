"""Whatever a request asks for that there is not is refused, wherever it stands, with what was probably meant.

How it could break: a misspelt parameter changes nothing without a word; a route takes what another one has; other
services' clients, which send more than we know, are refused; the hint names something that does not help.
"""

from __future__ import annotations

import base64
import json

import pytest

from tests.server.http.http_site import ASYNC, PICTURE, Site, assert_problem
from tests.service.test_classify import multipart

ID = "p" + 34 * "0"
TEXT = base64.b64encode(PICTURE).decode()
CLASSIFY = "/img-classification/free"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (f"{CLASSIFY}?topk=3", "Did you mean top_k?"),
        (f"{CLASSIFY}?top-k=3", "Did you mean top_k?"),
        (f"{CLASSIFY}?topK", "Did you mean top_k?"),
        (f"{CLASSIFY}?functions_to_apply=none", "Did you mean function_to_apply?"),
        (f"{CLASSIFY}?top_k=3&limit=3", "the query has 'limit'"),
        (f"{CLASSIFY}?limit=3", "it takes top_k and function_to_apply"),
        (f"{CLASSIFY}?{1000 * 'x'}=3", f"the query has '{80 * 'x'}'"),
    ],
)
def test_a_query_names_only_what_there_is(shared: Site, path: str, says: str) -> None:
    answer = shared.ask("POST", path, PICTURE, ASYNC)
    assert_problem(answer, 422, "bad_parameters")
    assert says in answer.json["detail"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/predictions?stauts=queued", "Did you mean status?"),
        ("/v1/predictions?limits=5", "Did you mean limit?"),
        (f"/v1/predictions/{ID}?wiat=5", "Did you mean wait?"),
        (f"/v1/predictions/{ID}/events?id={ID}", "it takes none"),
        (f"/v1/predictions/events?ids={ID}", "Did you mean id?"),
        ("/v1/tiers?tier=free", "it takes none"),
        ("/v1/tiers/free?wait=1", "it takes none"),
        ("/v1/tiers/free/activity?minutes=5", "it takes none"),
        ("/v1/tiers/events?tier=free", "it takes none"),
        ("/v1/models?limit=5", "it takes none"),
        ("/config?tier=free", "it takes none"),
    ],
)
def test_every_route_that_reads_says_what_its_query_has(shared: Site, path: str, says: str) -> None:
    answer = shared.get(path)
    assert_problem(answer, 422, "bad_parameters")
    assert says in answer.json["detail"]


@pytest.mark.parametrize("path", ["/?utm_source=mail", "/watch?x", "/docs?x=1", "/healthz?x", "/readyz?x=1", "/ping?x"])
def test_pages_and_probes_ignore_a_query(shared: Site, path: str) -> None:
    assert shared.get(path).status != 422


@pytest.mark.parametrize(
    ("body", "pointer", "says"),
    [
        ({"inputs": TEXT, "top_k": 3}, "/top_k", 'belongs into the object "parameters"'),
        ({"inputs": TEXT, "function_to_apply": "none"}, "/function_to_apply", 'belongs into the object "parameters"'),
        ({"input": TEXT}, "/input", "Did you mean inputs?"),
        ({"inputs": TEXT, "parameter": {}}, "/parameter", "Did you mean parameters?"),
        ({"inputs": TEXT, "a/b~": 1}, "/a~1b~0", "it takes inputs and parameters"),
        ({"inputs": TEXT, "parameters": {"topk": 3}}, "/parameters/topk", "Did you mean top_k?"),
        ({"inputs": TEXT, "parameters": {"size": 3}}, "/parameters/size", "it takes top_k and function_to_apply"),
    ],
)
def test_json_names_only_what_there_is(shared: Site, body: dict[str, object], pointer: str, says: str) -> None:
    answer = shared.post("free", json.dumps(body).encode(), {"Content-Type": "application/json"})
    assert_problem(answer, 422, "bad_parameters")
    assert answer.json["pointer"] == pointer
    assert says in answer.json["detail"]


@pytest.mark.parametrize("name", ["topk", "top-k", "csrf_token"])
@pytest.mark.parametrize("value", ["3", 100 * "3", ""])
def test_a_form_names_only_what_there_is(shared: Site, name: str, value: str) -> None:
    body, headers = multipart([PICTURE], {name: value})
    answer = shared.post("free", body, headers)
    assert_problem(answer, 422, "bad_parameters")
    assert ("Did you mean top_k?" in answer.json["detail"]) == (name != "csrf_token")


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/predictions/free?trace=1", PICTURE, "image/jpeg"),
        ("/predictions/free", multipart([PICTURE], {"other": "x"})[0], "multipart/form-data; boundary=XX"),
        ("/hf/free?x=1", PICTURE, "image/jpeg"),
        ("/hf/free", json.dumps({"inputs": TEXT, "options": {"wait_for_model": True}}).encode(), "application/json"),
        ("/v1/models/free:predict?x=1", json.dumps({"instances": [{"b64": TEXT}], "signature_name": "s"}).encode(), ""),
        (
            "/v2/models/free/infer?x=1",
            json.dumps(
                {"inputs": [{"name": "i", "shape": [1], "datatype": "BYTES", "data": [TEXT]}], "more": 1}
            ).encode(),
            "",
        ),
    ],
)
def test_routes_of_other_services_ignore_what_those_services_ignore(
    shared: Site, path: str, body: bytes, kind: str
) -> None:
    answer = shared.ask("POST", path, body, {"Content-Type": kind, "Prefer": "wait=0"})
    assert (answer.status, answer.json.get("problem", answer.json["code"])) in ((504, "not_yet"), (504, 504)), (
        answer.body
    )
    assert shared.ask("DELETE", answer.headers["Location"]).status == 200


@pytest.mark.parametrize(
    "number", ["+5", "5%20", "%2B5", "5.0", "1_0", "1e1", "%EF%BC%95", "", "true", "NaN", 5000 * "9"]
)
@pytest.mark.parametrize(("path", "name"), [("/v1/predictions", "limit"), (f"/v1/predictions/{ID}", "wait")])
def test_numbers_of_a_query_are_written_as_numbers_are(shared: Site, path: str, name: str, number: str) -> None:
    key = {"Authorization": f"Bearer {shared.key()}"}
    if (name, number) in {("wait", "5.0"), ("wait", "1e1")}:
        return  # seconds are no whole number
    answer = shared.ask("GET", f"{path}?{name}={number}", headers=key)
    assert_problem(answer, 404 if name == "wait" and answer.status == 404 else 400, answer.json["code"])
    assert name == "wait" or answer.json["code"] == "bad_limit"
