"""The internal port, as a worker that means no good would use it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import Answer, Service, service
from tests.service.pictures import CAT
from tests.service.test_classify import is_cat
from tests.waiting import eventually


@pytest.fixture(scope="module")
def serving(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(models, tmp_path_factory.mktemp("protocol"), ["tiers.free.quota.pods=1"]) as found:
        assert is_cat(found.post("free", CAT))
        yield found


@pytest.fixture
def token(serving: Service) -> str:
    return str(serving.workers()[0].environ()["TIERSERVE_TOKEN"])


def work(serving: Service, path: str, body: Any, token: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", serving.internal_port, timeout=10)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", f"/work/{path}", data, {"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["lease", "complete", "extend", "release"])
def test_without_a_token_nothing_is_given(serving: Service, path: str) -> None:
    assert work(serving, path, {}, "free.tierserve-free-x.0000").status == 401


def test_a_token_of_one_tier_is_worth_nothing_in_another(serving: Service, token: str) -> None:
    assert work(serving, "lease", {"most": 1, "wait": 0}, token.replace("free", "premium")).status == 401


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("lease", {"most": 0, "wait": 0}),
        ("lease", {"most": 1, "wait": 1e9}),
        ("lease", {"most": 1, "wait": 0, "tier": "premium"}),
        ("complete", {"completions": [{"id": "p", "token": "t", "results": [], "predict_ms": 1}]}),
        (
            "complete",
            {
                "completions": [
                    {"id": "p", "token": "t", "predict_ms": 1, "results": [{"labels": [{"label": "x", "score": 2}]}]}
                ]
            },
        ),
        ("complete", {"completions": [{"id": "p", "token": "t", "predict_ms": 1, "results": [{"labels": "cat"}]}]}),
        ("extend", {"leases": ["p"]}),
        ("release", {"leases": [["p", "t", "x"]]}),
    ],
)
def test_bodies_that_break_the_schema_change_nothing(serving: Service, token: str, path: str, body: Any) -> None:
    answer = work(serving, path, body, token)
    assert (answer.status, answer.json["code"]) == (422, "bad_worker_request")


def test_not_a_number_is_not_json(serving: Service, token: str) -> None:
    body = b'{"completions": [{"id": "p", "token": "t", "results": [{"labels": []}], "predict_ms": NaN}]}'
    assert work(serving, "complete", body, token).status == 400


def test_somebody_elses_prediction_is_not_completed(serving: Service, token: str) -> None:
    done = serving.post("free", CAT).json
    result = {"labels": [{"label": "dog", "score": 1.0}]}
    for prediction, outcome in ((done["id"], "unknown"), ("p" * 35, "unknown")):
        body = {"completions": [{"id": prediction, "token": "guess", "results": [result], "predict_ms": 1}]}
        assert work(serving, "complete", body, token).json["outcomes"] == [outcome]
    assert serving.get(done["urls"]["get"]).json == done


def test_a_job_that_ended_is_dismissed(serving: Service, token: str) -> None:
    serving.workers()[0].kill()
    eventually(
        lambda: work(serving, "lease", {"most": 1, "wait": 0}, token),
        30,
        "the Job that was killed is dismissed",
        lambda answer: answer.status == 410,
    )
