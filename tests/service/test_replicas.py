"""Two servers share a PostgreSQL and a place for pictures, and give the same answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from psycopg import Connection

from tests.postgres import Postgres, need_postgres
from tests.running import Answer, Service, listening, service
from tests.service.conftest import PAUSED
from tests.service.pictures import CAT
from tests.service.test_classify import is_cat
from tests.waiting import eventually

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    need_postgres()
    with Postgres() as server:
        yield server


def says(server: Service, words: str) -> None:
    """Return when a server's log contains these words."""
    eventually(server.log.read_text, 30, f"it says {words!r}", lambda log: words in log, (FileNotFoundError,))


def leads(server: Service) -> None:
    says(server, "this server leads")


def rows_are(connection: Connection[Any], count: int) -> None:
    """Return when the queue has so many predictions."""
    query = "SELECT count(*) FROM predictions"
    eventually(
        lambda: connection.execute(query).fetchone(), 20, f"{count} predictions are kept", lambda row: row == (count,)
    )


@pytest.fixture
def pair(models: Path, tmp_path: Path, postgres: Postgres) -> Iterator[list[Service]]:
    """Two servers, of which the first one leads."""
    options = ["--database", postgres.url, "--blobs", str(tmp_path / "blobs")]
    with ExitStack() as stack:
        started = []
        for name in ("first", "second"):
            started.append(stack.enter_context(service(models, tmp_path / name, options=options)))
            leads(started[0])
        yield started


def test_what_one_server_accepts_another_answers(pair: list[Service]) -> None:
    first, second = pair
    assert is_cat(second.post("free", CAT))
    url = second.post("free", CAT, ASYNC).headers["Location"]
    assert is_cat(first.get(f"{url}?wait=30"))
    key = {"Idempotency-Key": "once"}
    assert first.post("free", CAT, key).json["id"] == second.post("free", CAT, key).json["id"]


def test_when_the_server_that_leads_is_killed_another_does(pair: list[Service]) -> None:
    first, second = pair
    assert is_cat(first.post("free", CAT))
    assert first.workers()
    assert not second.workers()
    keys = [first.post("free", CAT, ASYNC).headers["Location"] for _ in range(8)]
    first.kill()
    leads(second)
    assert all(is_cat(second.get(f"{key}?wait=60")) for key in keys)
    first.start()
    assert is_cat(first.post("premium", CAT))


def test_a_server_that_stops_leaves_no_waiting_client_without_an_answer(
    pair: list[Service], postgres: Postgres
) -> None:
    first, second = pair
    answers: list[Answer] = []
    clients = [
        threading.Thread(target=lambda: answers.append(first.post("premium", CAT, {"Prefer": "wait=60"})))
        for _ in range(8)
    ]
    for client in clients:
        client.start()
    with postgres.connect() as rows:
        rows_are(rows, 8)
    first.stop()
    for client in clients:
        client.join(60)
    assert {answer.status for answer in answers} <= {200, 202}
    assert len(answers) == len(clients)
    for answer in answers:
        assert is_cat(second.get(f"{answer.headers['Location']}?wait=60"))


def test_a_server_waits_for_its_database(models: Path, tmp_path: Path, postgres: Postgres) -> None:
    postgres.stop()
    server = Service(tmp_path / "early", models, options=["--database", postgres.url])
    starting = threading.Thread(target=server.start)
    starting.start()
    try:
        says(server, "waiting for the database")
        assert not listening(server.port)
        assert "not-a-secret" not in server.log.read_text()
        postgres.start()
        starting.join(30)
        assert is_cat(server.post("free", CAT))
    finally:
        server.stop()


def test_a_client_that_waits_while_the_database_goes_knows_that_it_was_accepted(
    models: Path, tmp_path: Path, postgres: Postgres
) -> None:
    answers: list[Answer] = []
    options = ["--database", postgres.url]
    with service(models, tmp_path, PAUSED, options=options) as server:
        client = threading.Thread(target=lambda: answers.append(server.post("free", CAT, {"Prefer": "wait=3"})))
        client.start()
        with postgres.connect() as rows:
            rows_are(rows, 1)
        postgres.kill()
        client.join(30)
        assert (answers[0].status, answers[0].json["queue"]) == (202, None)
        postgres.start()
        assert server.get(answers[0].headers["Location"]).json["status"] == "queued"


def test_while_the_database_is_away_nothing_is_promised(pair: list[Service], postgres: Postgres) -> None:
    first, second = pair
    assert is_cat(first.post("free", CAT))
    postgres.kill()
    for one in pair:
        refused = one.post("free", CAT)
        assert (refused.status, refused.json["code"]) in ((503, "storage_unavailable"), (503, "outcome_unknown"))
        assert "Retry-After" in refused.headers
        assert one.get("/healthz").status == 200
    postgres.start()
    again = "predictions are made again"
    assert is_cat(eventually(lambda: second.post("free", CAT), 60, again, lambda answer: answer.status == 200))
