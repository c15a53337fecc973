"""What makes scores of a model's logits is the client's choice, in each way to ask."""

from __future__ import annotations

import base64
import json
import math

import pytest

from tests.running import Answer, Service
from tests.service.test_classify import multipart

FUNCTIONS = ("softmax", "sigmoid", "none")


def scores(answer: Answer) -> list[float]:
    assert answer.status == 200, answer.body
    return [label["score"] for label in answer.json["results"][0]["labels"]]


def test_each_function_makes_its_scores(running: Service, cat: bytes) -> None:
    plain = scores(running.post("free", cat))
    softmax, sigmoid, logits = (
        scores(running.post("free", cat, query=f"?top_k=5&function_to_apply={name}")) for name in FUNCTIONS
    )
    assert softmax == plain
    assert sigmoid == pytest.approx([1 / (1 + math.exp(-logit)) for logit in logits], abs=1e-5)
    assert softmax == pytest.approx([softmax[0] * math.exp(logit - logits[0]) for logit in logits], abs=1e-5)
    assert logits[0] > 1.001


def test_a_function_is_taken_from_forms_and_json_too(running: Service, cat: bytes) -> None:
    logits = scores(running.post("free", cat, query="?function_to_apply=none"))
    text = json.dumps({"inputs": base64.b64encode(cat).decode(), "parameters": {"function_to_apply": "none"}})
    body, headers = multipart([cat], {"function_to_apply": "none"})
    assert scores(running.post("free", body, headers)) == pytest.approx(logits, abs=1e-5)
    of_json = {"Content-Type": "application/json"}
    found = running.post("free", text.encode(), of_json, query="?function_to_apply=sigmoid")
    assert scores(found) == pytest.approx(logits, abs=1e-5), "the body counts before the query"


def test_a_function_is_kept_with_what_waits_in_the_table(running: Service, cat: bytes) -> None:
    accepted = running.post("free", cat, {"Prefer": "respond-async"}, query="?function_to_apply=none&top_k=1")
    assert accepted.status == 202
    ended = running.get(f"{accepted.headers['Location']}?wait=30")
    assert scores(ended)[0] > 1.001
