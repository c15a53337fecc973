"""The Open Inference Protocol, version 2, over HTTP. Real clients of it are in tests/foreign."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.http.facades.tensors import written
from server.intake.outputs import Output
from server.models import Models
from server.queue import DiskFull, Served, Serving, TierView
from server.settings.live import Live
from server.settings.sources import Files
from tests.running import Answer
from tests.server.http.http_site import ANSWER_SECONDS, Site, completion, running
from tests.server.http.protocols import (
    BROKEN,
    LENGTH_OF_JSON,
    RESULTS,
    answered,
    assert_error,
    binary_tensor,
    tensor,
)
from tests.server.models.model_folder import write

INFER = "/v2/models/free/infer"
ROSE = Served("flowers@0f1e2d3c", "00000000", "onnx", "int8", 5.0)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    write(tmp_path / "models", ROSE.reference, variants=["onnx/int8"], labels=["tiger, caf\u00e9", "tabby"])
    with running(tmp_path / "site", Live(Files()), models=Models(tmp_path / "models")) as found:
        found.serve("free", Serving(ROSE))
        yield found


def infer(site: Site, body: Any, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return answered(site, INFER, data, headers, model=ROSE.reference, **more)


def parts(answer: Answer) -> tuple[dict[str, Any], bytes]:
    """The JSON of a binary answer, and what follows it."""
    length = int(answer.headers[LENGTH_OF_JSON])
    assert answer.headers["Content-Type"] == "application/octet-stream"
    found: dict[str, Any] = json.loads(answer.body[:length])
    return found, answer.body[length:]


def texts(data: bytes) -> list[str]:
    found = []
    while data:
        (length,) = struct.unpack("<I", data[:4])
        found.append(data[4 : 4 + length].decode())
        data = data[4 + length :]
    return found


def test_json_in_and_json_out(site: Site) -> None:
    answer = infer(site, tensor(id="mine", parameters={"top_k": 2}))
    assert answer.status == 200
    assert answer.headers["Location"].startswith("/v1/predictions/")
    assert answer.json == {
        "id": "mine",
        "model_name": "free",
        "model_version": "0f1e2d3c",
        "outputs": [
            {
                "name": "labels",
                "datatype": "BYTES",
                "shape": [2, 2],
                "data": ["tabby", "tiger, caf\u00e9", "tiger, caf\u00e9", "tabby"],
            },
            {"name": "scores", "datatype": "FP32", "shape": [2, 2], "data": [0.75, 0.25, 0.5, 0.125]},
        ],
    }


def test_binary_in_and_binary_out(site: Site) -> None:
    body, headers = binary_tensor(parameters={"binary_data_output": True})
    head, tail = parts(infer(site, body, headers))
    sizes = [one["parameters"]["binary_data_size"] for one in head["outputs"]]
    assert sum(sizes) == len(tail)
    assert ("id" in head, [one["shape"] for one in head["outputs"]]) == (False, [[2, 2], [2, 2]])
    assert texts(tail[: sizes[0]]) == ["tabby", "tiger, caf\u00e9", "tiger, caf\u00e9", "tabby"]
    assert struct.unpack("<4f", tail[sizes[0] :]) == (0.75, 0.25, 0.5, 0.125)


def test_outputs_come_as_they_are_wanted(site: Site) -> None:
    outputs = [
        {"name": "scores", "parameters": {"binary_data": True, "classification": 1}},
        {"name": "labels", "parameters": {"binary_data": False}},
    ]
    head, tail = parts(infer(site, tensor(outputs=outputs, parameters={"top_k": 2, "binary_data_output": True})))
    assert texts(tail) == ["0.750000:1:tabby", "0.500000:0:tiger, caf\u00e9"]
    scores, labels = head["outputs"]
    assert (scores["datatype"], scores["shape"], labels["shape"], len(labels["data"])) == ("BYTES", [2, 1], [2, 2], 4)
    only = infer(site, tensor(outputs=[{"name": "scores"}])).json["outputs"]
    assert [one["name"] for one in only] == ["scores"]


def test_a_class_of_a_model_that_is_not_known_any_more_has_no_index(site: Site) -> None:
    site.serve("free", Serving(Served("flowers@99999999", "00000000", "onnx", "int8", 6.0)))
    outputs = [{"name": "scores", "parameters": {"classification": 1}}]
    asked = tensor(1, outputs=outputs, parameters={"top_k": 2})
    answer = infer(site, asked, results=RESULTS[:1])
    assert answer.json["outputs"][0]["data"] == ["0.750000:-1:tabby"]


def test_a_score_that_no_four_bytes_can_hold_is_the_largest_that_they_can() -> None:
    _, tail = written([[{"label": "tabby", "score": -1e300}]], [Output("scores", binary=True)], ())
    assert struct.unpack("<f", tail)[0] == pytest.approx(-3.4028235e38)


@pytest.mark.parametrize(("count", "results"), [(1, [BROKEN]), (2, [RESULTS[0], BROKEN])])
def test_a_picture_that_failed_is_an_error_that_tells_where_the_others_are(
    site: Site, count: int, results: list[Any]
) -> None:
    answer = infer(site, tensor(count), results=results)
    assert_error(answer, 422, "broken_image")
    read = site.get(answer.headers["Location"])
    assert [one["status"] for one in read.json["results"]][-1] == "failed"


def test_the_version_of_the_tiers_model_may_be_named(site: Site) -> None:
    target, body = "/v2/models/free/versions/0f1e2d3c", json.dumps(tensor(1)).encode()
    assert answered(site, f"{target}/infer", body, results=RESULTS[:1], model=ROSE.reference).status == 200
    assert site.get(target).json == site.get("/v2/models/free").json
    for path in ("", "/ready"):
        assert_error(site.get(f"/v2/models/free/versions/1{path}"), 404, "no_such_model")
    assert_error(site.ask("POST", "/v2/models/free/versions/1/infer", body), 404, "no_such_model")


def test_the_server_and_its_tiers_are_described(site: Site) -> None:
    server = site.get("/v2").json
    assert (server["name"], server["extensions"]) == ("tierserve", ["binary_tensor_data", "classification"])
    free = site.get("/v2/models/free").json
    assert (free["name"], free["versions"], free["inputs"]) == (
        "free",
        ["0f1e2d3c"],
        [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
    )
    assert site.get("/v2/models/premium").json["versions"] == []
    for path in ("/v2/models/none", "/v2/models/none/ready"):
        assert_error(site.get(path), 404, "no_such_tier")


def test_health_is_that_of_the_other_routes(site: Site) -> None:
    assert site.get("/v2/health/live").json == {"live": True}
    assert site.get("/v2/health/ready").json == {"ready": True, "status": "ready"}
    unseen = site.get("/v2/models/free/ready")
    assert (unseen.status, unseen.json["ready"]) == (503, False)
    view = TierView(running=0, starting=0, room=1, quota={}, healthy=True, reason="", caution="")
    site.queue.report("free", view).result(ANSWER_SECONDS)
    assert site.get("/v2/models/free/ready").json == {"name": "free", "ready": True, "reason": ""}
    site.database.failure = DiskFull("no room")
    try:
        for path in ("/v2/health/ready", "/v2/models/free/ready"):
            assert (site.get(path).status, site.get(path).json["ready"]) == (503, False)
        assert site.get("/v2/health/live").status == 200
    finally:
        site.database.failure = None


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({LENGTH_OF_JSON: "ten"}, b"{}", 400, "bad_length"),
        ({LENGTH_OF_JSON: "-1"}, b"{}", 400, "bad_length"),
        ({LENGTH_OF_JSON: "3"}, b"{}", 422, "bad_inputs"),
        ({LENGTH_OF_JSON: "0"}, b"{}", 400, "bad_json"),
        ({}, b"{", 400, "bad_json"),
        ({}, b"{}", 422, "bad_inputs"),
        ({"Content-Encoding": "gzip"}, b"{}", 415, "unsupported_media_type"),
        ({"Content-Encoding": "Deflate"}, b"{}", 415, "unsupported_media_type"),
        ({"Authorization": "Bearer tsk_none_such"}, b"{}", 401, "key_unknown"),
        ({"Cancel-After": "1 day"}, b"{}", 400, "bad_cancel_after"),
    ],
)
def test_an_error_has_the_protocols_shape(
    shared: Site, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    assert_error(shared.ask("POST", INFER, body, headers), status, code)


def test_so_has_one_of_an_unknown_tier_and_of_a_method_that_is_none(shared: Site) -> None:
    assert_error(shared.ask("POST", "/v2/models/none/infer", b"{}"), 404, "no_such_tier")
    refused = shared.get(INFER)
    assert (refused.status, refused.json["error"] != "", refused.headers["Allow"]) == (405, True, "OPTIONS, POST")


def test_a_body_that_is_too_long_is_refused_before_it_comes(shared: Site) -> None:
    tail = 2**31
    told = f"POST {INFER} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {tail}\r\nExpect: 100-continue\r\n\r\n"
    answer = shared.exchange(told.encode())
    assert b" 413 " in answer.split(b"\r\n")[0]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "too_many_bytes"


def test_what_has_not_ended_in_time_stays_accepted(site: Site) -> None:
    body, headers = json.dumps(tensor(1)).encode(), {"Prefer": "wait=1", "Idempotency-Key": "k"}
    late = site.ask("POST", INFER, body, headers)
    assert_error(late, 504, "not_yet")
    assert site.get(late.headers["Location"]).json["status"] == "queued"
    again = answered(site, INFER, body, {"Idempotency-Key": "k"}, RESULTS[:1], ROSE.reference)
    assert (again.status, again.headers["Location"]) == (200, late.headers["Location"])


def test_a_full_queue_says_when_to_come_again(small: Site) -> None:
    while small.submit().status == 202:
        pass
    full = small.ask("POST", INFER, json.dumps(tensor(1)).encode())
    assert_error(full, 429, "queue_full")
    assert int(full.headers["Retry-After"]) >= 1


def test_pictures_that_wait_in_a_file_take_no_memory(site: Site) -> None:
    body, headers = binary_tensor()
    answer = site.callers.submit(site.ask, "POST", INFER, body, headers | {"Idempotency-Key": "k"})
    token = site.job()
    (one,) = site.lease(token)
    assert site.services.uploads.used() == 0
    site.hand_in([completion(one, RESULTS, ROSE.reference)], token)
    answer.result(ANSWER_SECONDS)
