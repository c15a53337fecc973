"""TensorFlow Serving's and KServe's version 1 over HTTP. Real clients of it are in tests/foreign."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.queue import TierView
from tests.server.http.http_site import ANSWER_SECONDS, Site
from tests.server.http.protocols import BROKEN, RESULTS, TEXT, answered, assert_error

PREDICT = "/v1/models/free:predict"
TWO = {"instances": [{"b64": TEXT}, {"image_bytes": {"b64": TEXT}, "key": "1"}], "signature_name": "serving_default"}


def body(asked: Any) -> bytes:
    return json.dumps(asked).encode()


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_each_instance_gets_its_prediction(shared: Site, kind: str) -> None:
    answer = answered(shared, PREDICT, body(TWO), {"Content-Type": kind})
    assert answer.status == 200
    assert answer.json == {
        "predictions": [
            {"labels": ["tabby", "tiger, caf\u00e9"], "scores": [0.75, 0.25]},
            {"labels": ["tiger, caf\u00e9", "tabby"], "scores": [0.5, 0.125]},
        ]
    }
    assert shared.get(answer.headers["Location"]).json["images"] == 2


def test_an_instance_that_failed_says_why_and_the_others_have_their_labels(shared: Site) -> None:
    answer = answered(shared, PREDICT, body(TWO), results=[RESULTS[0], BROKEN])
    first, second = answer.json["predictions"]
    assert (first["labels"][0], "error" in first) == ("tabby", False)
    assert second == {"labels": [], "scores": [], **BROKEN}


def test_a_request_whose_instances_all_failed_is_an_error(shared: Site) -> None:
    one = {"instances": [{"b64": TEXT}]}
    assert_error(answered(shared, PREDICT, body(one), results=[BROKEN]), 422, "broken_image")


@pytest.mark.parametrize("where", ["query", "body"])
def test_parameters_are_those_of_our_own_route(shared: Site, where: str) -> None:
    asked = TWO if where == "query" else {**TWO, "parameters": {"top_k": 1}}
    results = [{"labels": one["labels"][:1]} for one in RESULTS]
    answer = answered(shared, f"{PREDICT}?top_k=1" if where == "query" else PREDICT, body(asked), results=results)
    assert [one["labels"] for one in answer.json["predictions"]] == [["tabby"], ["tiger, caf\u00e9"]]


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"instances": []}, 422, "bad_inputs"),
        ({"instances": ["text"]}, 422, "bad_inputs"),
        ({"instances": [{"b64": "*"}]}, 422, "bad_base64"),
        ({"instances": [{"b64": "AAAA"}]}, 415, "unsupported_media_type"),
        ({**TWO, "parameters": {"top_k": 0}}, 422, "bad_top_k"),
        ({**TWO, "parameters": {"k": 0}}, 422, "bad_parameters"),
        ([], 400, "bad_json"),
    ],
)
def test_an_error_has_the_protocols_shape(shared: Site, asked: Any, status: int, code: str) -> None:
    assert_error(shared.ask("POST", PREDICT, body(asked)), status, code)


def test_so_has_one_of_an_unknown_tier(shared: Site) -> None:
    assert_error(shared.ask("POST", "/v1/models/none:predict", body(TWO)), 404, "no_such_tier")


def test_where_no_model_has_the_name_a_tier_tells_whether_it_is_ready(site: Site) -> None:
    unseen = site.get("/v1/models/free")
    assert (unseen.status, unseen.json) == (503, {"name": "free", "ready": False})
    view = TierView(running=0, starting=0, room=1, quota={}, healthy=True, reason="", caution="")
    site.queue.report("free", view).result(ANSWER_SECONDS)
    assert site.get("/v1/models/free").json == {"name": "free", "ready": True}
    assert site.get("/v1/models/none").status == 404
