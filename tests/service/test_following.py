"""Predictions are followed at real servers, through workers, over two servers, and while a server stops."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.events import Event, opened
from tests.postgres import Postgres, need_postgres
from tests.running import Service, service
from tests.service.conftest import PAUSED
from tests.service.pictures import CAT
from tests.service.test_classify import is_cat

ASYNC = {"Prefer": "respond-async"}
ORDER = ["queued", "starting", "leased", "succeeded"]


def events_of(prediction_id: str) -> str:
    return f"/v1/predictions/{prediction_id}/events"


def submitted(server: Service, tier: str = "free") -> str:
    answer = server.post(tier, CAT, ASYNC)
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


def assert_cat_at_the_end(events: Sequence[Event], server: Service, prediction_id: str) -> None:
    """Check that the states came in order, the last one with what this server answers."""
    steps = [ORDER.index(event.name) for event in events]
    assert steps == sorted(steps)
    answer = server.get(f"/v1/predictions/{prediction_id}")
    assert is_cat(answer)
    assert (events[-1].name, events[-1].data) == ("succeeded", answer.json)


def test_a_cat_is_followed_to_its_labels(running: Service) -> None:
    key = submitted(running)
    with opened(running.port, events_of(key)) as stream:
        assert_cat_at_the_end(list(stream.rest()), running, key)


@pytest.fixture
def paused_pair(models: Path, tmp_path: Path) -> Iterator[list[Service]]:
    """Two servers on a PostgreSQL. Their tier free takes predictions and starts no worker."""
    need_postgres()
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres())
        options = ["--database", postgres.url, "--blobs", str(tmp_path / "blobs")]
        yield [
            stack.enter_context(service(models, tmp_path / name, PAUSED, options=options))
            for name in ("first", "second")
        ]


def test_what_one_server_takes_is_followed_at_the_other(paused_pair: list[Service]) -> None:
    first, second = paused_pair
    key = submitted(first, "premium")
    with opened(second.port, events_of(key)) as stream:
        assert_cat_at_the_end(list(stream.rest()), first, key)
    keys = [submitted(first) for _ in range(3)]
    with opened(second.port, events_of(keys[2])) as stream:
        seen = stream.next()
        assert seen
        assert (seen.name, seen.data["position"]) == ("queued", 3)
        first.ask("DELETE", f"/v1/predictions/{keys[0]}")
        seen = stream.until("queued")[-1]
        assert seen.data["position"] == 2
        first.ask("DELETE", f"/v1/predictions/{keys[2]}")
        assert [event.name for event in stream.rest()] == ["canceled"]


def test_a_server_that_stops_ends_its_streams_and_another_goes_on(paused_pair: list[Service]) -> None:
    first, second = paused_pair
    key = submitted(first)
    with opened(second.port, events_of(key)) as stream:
        seen = next(event for event in stream.rest() if "quota" in event.data["reason"])  # the leader has looked
        stopping = threading.Thread(target=second.stop)
        stopping.start()
        assert [event.name for event in stream.rest()] == ["drain"]
        stopping.join(30)
        assert (stream.last_id, stream.retry) == (seen.id, 500)
    with opened(first.port, events_of(key), last_id=stream.last_id) as stream:
        first.ask("DELETE", f"/v1/predictions/{key}")
        *between, _ = stream.until("canceled")
        assert seen.data not in [event.data for event in between]  # its reason may change with the leader
