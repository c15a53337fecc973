"""Some thousand mutated requests, and the judge of their answers."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.hostile import requests
from tests.hostile.answers import Reply, complaint
from tests.hostile.mutator import INTERNAL, PUBLIC, Mutator
from tests.hostile.oddities import GUESSED
from tests.postgres import Postgres, need_postgres
from tests.waiting import shortened

COUNT, SEED = 2000, 11
# Strangers behind a proxy, who must have keys.
KEYS = [
    "server.requireKeys=true",
    "server.trustedProxies={127.0.0.0/8}",
    "server.accessLog=json",
    "tiers.premium.access.anonymous=true",
    "tiers.free.access.perDay=500",
]
PROBLEM = {
    "type": "about:blank",
    "title": "x",
    "status": 404,
    "code": "no_such_route",
    "detail": "x",
    "request_id": "x",
}
JSON = {"content-type": "application/problem+json"}
SHAPE = {"error": "x", "code": "no_such_tier", "request_id": "x"}
OTHER = {"content-type": "application/json"}


def test_mutated_requests_get_answers_that_are_documented(models: Path, tmp_path: Path) -> None:
    good(requests.run(models, tmp_path, COUNT, SEED))


def test_mutated_requests_on_postgresql_get_answers_that_are_documented(models: Path, tmp_path: Path) -> None:
    need_postgres()
    with Postgres() as database:
        good(requests.run(models, tmp_path, COUNT, SEED, settings=KEYS, options=["--database", database.url]))


def good(outcome: requests.Outcome) -> None:
    """Check what came of a run."""
    assert outcome.answered > COUNT / 3, outcome.table()
    assert outcome.counts["a message of the server"], outcome.table()
    assert outcome.complaints == [], shortened(f"{outcome.table()}\n{json.dumps(outcome.failures[:3])}")


def test_a_seed_repeats_its_requests() -> None:
    def made() -> list[bytes]:
        mutator = Mutator(random.Random(2), b"a picture", "a.token.x", "admin")
        return [mutator.next(port).data for _ in range(200) for port in (PUBLIC, INTERNAL)]

    first = made()
    assert first == made()
    assert max(map(len, first)) < 16 << 20


@pytest.mark.parametrize(
    ("status", "headers", "body", "words"),
    [
        pytest.param(200, {}, {}, "", id="200"),
        pytest.param(404, JSON, PROBLEM, "", id="problem"),
        pytest.param(503, JSON | {"retry-after": "1"}, PROBLEM | {"status": 503, "code": "busy"}, "", id="503"),
        pytest.param(504, JSON, PROBLEM | {"status": 504, "prediction": {}}, "", id="504 of a prediction"),
        pytest.param(503, JSON, PROBLEM | {"status": 503}, "503 without Retry-After", id="503 without Retry-After"),
        pytest.param(500, JSON, PROBLEM | {"status": 500}, "answered 500", id="500"),
        pytest.param(504, JSON, PROBLEM | {"status": 504}, "answered 504", id="504 of nothing"),
        pytest.param(302, {}, {}, "answered 302", id="302"),
        pytest.param(404, OTHER, SHAPE, "", id="another service's shape"),
        pytest.param(504, OTHER, SHAPE | {"code": "not_yet", "prediction": "x"}, "", id="its 504 of a prediction"),
        pytest.param(404, OTHER, SHAPE | {"code": "no_such_thing"}, "is not in the docs", id="its unknown code"),
        pytest.param(404, OTHER, PROBLEM, "no other service's shape", id="a problem that is told as JSON"),
        pytest.param(404, {"content-type": "text/html"}, PROBLEM, "no problem+json", id="HTML"),
        pytest.param(400, JSON, PROBLEM, "lacks parts", id="another status in the body"),
        pytest.param(404, JSON, {"code": "no_such_route"}, "lacks parts", id="no detail"),
        pytest.param(404, JSON, PROBLEM | {"detail": GUESSED}, "a key is in the answer", id="key in the body"),
        pytest.param(200, {"x-request-id": GUESSED}, {}, "a key is in the answer", id="key in a header"),
        pytest.param(200, {}, "root:x:0:0:root:/root", "a file of the machine", id="a file"),
        pytest.param(404, JSON, PROBLEM | {"code": "no_such_thing"}, "is not in docs/errors.md", id="unknown code"),
    ],
)
def test_answers_are_judged(status: int, headers: dict[str, str], body: object, words: str) -> None:
    found = complaint(Reply(status, headers, json.dumps(body).encode()), "GET")
    assert words in found
    assert bool(found) == bool(words)


def test_a_request_that_got_a_wrong_answer_is_saved_and_can_be_sent_again(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [b"GET /v1/tiers HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    failure = {"port": PUBLIC, "data": [base64.b64encode(data).decode() for data in sent]}

    @contextmanager
    def failing(order: dict[str, Any], processes: int, outcome: requests.Outcome) -> Iterator[list[Thread]]:
        outcome.failures.append(failure)
        yield []

    monkeypatch.setattr(requests, "senders", failing)
    requests.run(models, tmp_path, 0, SEED)
    lines = list(requests.replay(tmp_path / "wrong-0.json", models, tmp_path / "again"))
    assert [line[:5] for line in lines[:-1]] == ["> b'G", "< 200", "> b'G", "< 404"]
