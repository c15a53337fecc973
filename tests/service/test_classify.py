"""Classifying pictures: every way to ask, and every answer that a caller may get."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.running import Answer, Service, service

CATS = ("tabby", "tiger cat", "Egyptian cat")


def multipart(pictures: list[bytes], fields: dict[str, str] | None = None) -> tuple[bytes, dict[str, str]]:
    parts = [
        f'--XX\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in (fields or {}).items()
    ]
    for picture in pictures:
        head = '--XX\r\nContent-Disposition: form-data; name="image"; filename="a"\r\nContent-Type: image/jpeg\r\n\r\n'
        parts.append(head.encode() + picture + b"\r\n")
    return b"".join(parts) + b"--XX--\r\n", {"Content-Type": "multipart/form-data; boundary=XX"}


def is_cat(answer: Answer, index: int = 0) -> bool:
    assert answer.status == 200, answer.body
    return any(answer.json["results"][index]["labels"][0]["label"].startswith(cat) for cat in CATS)


@pytest.mark.parametrize("tier", ["free", "premium"])
def test_a_cat_is_a_cat(running: Service, cat: bytes, tier: str) -> None:
    answer = running.post(tier, cat, {"Content-Type": "image/jpeg"})
    assert is_cat(answer)
    prediction = answer.json
    assert prediction["status"] == "succeeded"
    assert prediction["error"] is None
    assert prediction["queue"] is None
    assert prediction["metrics"].keys() == {"queue_ms", "predict_ms", "total_ms"}
    assert answer.headers["Location"] == prediction["urls"]["get"]
    assert running.get(prediction["urls"]["get"]).json == prediction


def test_labels_come_best_first_and_as_many_as_asked(running: Service, cat: bytes) -> None:
    labels = running.post("free", cat, query="?top_k=7").json["results"][0]["labels"]
    scores = [label["score"] for label in labels]
    assert len(labels) == 7
    assert scores == sorted(scores, reverse=True)


def test_several_pictures_in_one_request_keep_their_order(running: Service, cat: bytes, tiny: bytes) -> None:
    body, headers = multipart([cat, tiny, cat], {"top_k": "2"})
    answer = running.post("free", body, headers)
    assert [is_cat(answer, index) for index in range(3)] == [True, False, True]
    assert [len(result["labels"]) for result in answer.json["results"]] == [2, 2, 2]


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "text/plain"])
def test_json_with_base64_and_data_urls(running: Service, cat: bytes, kind: str) -> None:
    text = base64.b64encode(cat).decode()
    asked = {"inputs": [text, f"data:image/jpeg;base64,{text}"], "parameters": {"top_k": 1}}
    answer = running.post("free", json.dumps(asked).encode(), {"Content-Type": kind})
    assert is_cat(answer, 0)
    assert is_cat(answer, 1)


def test_respond_async_then_wait(running: Service, cat: bytes) -> None:
    answer = running.post("free", cat, {"Prefer": "respond-async"})
    assert answer.status == 202
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json["status"] in ("queued", "leased")
    assert is_cat(running.get(f"{answer.headers['Location']}?wait=30"))


def test_prefer_wait_is_applied(running: Service, cat: bytes) -> None:
    answer = running.post("free", cat, {"Prefer": "wait=30"})
    assert is_cat(answer)
    assert answer.headers["Preference-Applied"] == "wait=30"


def test_a_worker_answers_many_requests_and_goes_when_idle(models: Path, tmp_path: Path, cat: bytes) -> None:
    with service(models, tmp_path, ["tiers.free.waits.idleSeconds=1"]) as found:
        assert all(is_cat(found.post("free", cat)) for _ in range(5))
        (worker,) = found.workers()
        worker.wait(timeout=10)
        assert is_cat(found.post("free", cat))


def test_every_answer_has_an_id(running: Service) -> None:
    assert len(running.get("/healthz").headers["X-Request-Id"]) == 16
    assert running.ask("GET", "/nowhere", None, {"X-Request-Id": "mine"}).json["request_id"] == "mine"


def test_config_lists_the_pods(running: Service, cat: bytes) -> None:
    running.post("free", cat)
    pods = running.get("/config").json["pods"]
    assert {"node", "ip", "namespace", "name", "status", "job", "stage", "reason"} == pods[0].keys()
    assert ("tierserve-free", "Running") in {(pod["namespace"], pod["status"]) for pod in pods}


def test_readiness_names_every_tier(running: Service) -> None:
    ready = running.get("/readyz")
    assert ready.status == 200
    assert {name: tier["healthy"] for name, tier in ready.json["tiers"].items()} == {"free": True, "premium": True}
