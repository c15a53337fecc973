"""Which requests wait in the lobby, and which take the table, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.settings.live import Live
from server.settings.sources import Files
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, Site, completion, running, waits
from tests.waiting import eventually


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    live = Live(Files(overrides=("server.lobbySeconds=60",)))
    with running(tmp_path, live) as found:
        yield found


def alive(site: Site) -> int:
    """How many predictions of free wait, in the lobby or in the table."""
    queued: int = site.get("/v1/tiers/free").json["queued"]
    return queued


def test_what_waits_in_the_lobby_is_in_no_table(site: Site) -> None:
    channel = site.worker(site.job())
    answer = site.callers.submit(site.post, "free", PICTURE)
    eventually(lambda: alive(site), ANSWER_SECONDS, "the request waits", lambda many: many == 1)
    assert (waits(site), list(site.blobs.older_than(0))) == (0, [])
    channel.grant(1)
    (one,) = channel.lease()
    assert (waits(site, leased=True), answer.done()) == (0, False)
    channel.say({"completions": [completion(one)]})
    told = answer.result(ANSWER_SECONDS)
    assert (told.status, told.json["id"], told.json["status"]) == (200, one["id"], "succeeded")
    assert site.get(f"/v1/predictions/{one['id']}").json["results"] == told.json["results"]
    assert list(site.blobs.older_than(0)) == []


@pytest.mark.parametrize("headers", [{"Prefer": "respond-async"}, {"Idempotency-Key": "k", "Prefer": "wait=1"}])
def test_what_must_be_kept_first_takes_the_table(site: Site, headers: dict[str, str]) -> None:
    site.worker(site.job())
    assert site.post("free", PICTURE, headers).status == 202
    assert (waits(site), alive(site)) == (1, 1)


def test_without_a_worker_there_is_no_lobby(site: Site) -> None:
    answer = site.callers.submit(site.post, "free", PICTURE, {"Prefer": "wait=2"})
    eventually(lambda: waits(site), ANSWER_SECONDS, "the request is in the table", lambda many: many == 1)
    assert answer.result(ANSWER_SECONDS).status == 202


def test_a_wait_that_ends_is_kept_before_its_answer(site: Site) -> None:
    site.worker(site.job())
    answer = site.post("free", PICTURE, {"Prefer": "wait=1"})
    assert (answer.status, answer.json["queue"]["position"]) == (202, 1)
    assert site.queue.get(answer.json["id"]).result(ANSWER_SECONDS) is not None


def test_a_request_for_which_the_lobby_has_no_memory_takes_the_table(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.lobby.lobby.LARGEST_BYTES", len(PICTURE))  # a blob has a head, too
    site.worker(site.job())
    answer = site.callers.submit(site.post, "free", PICTURE, {"Prefer": "wait=2"})
    eventually(lambda: waits(site), ANSWER_SECONDS, "the request is in the table", lambda many: many == 1)
    assert answer.result(ANSWER_SECONDS).status == 202


def test_a_caller_whom_the_table_may_know_takes_it_while_predictions_wait_there(site: Site) -> None:
    site.worker(site.job())
    site.keep()
    answer = site.callers.submit(site.post, "free", PICTURE, {"Prefer": "wait=1"})
    eventually(lambda: alive(site), ANSWER_SECONDS, "the request waits", lambda many: many == 2)
    assert waits(site) == 2
    mine = answer.result(ANSWER_SECONDS)
    assert (mine.status, mine.json["queue"]["position"]) == (202, 2)
    site.submit()  # with it the table tells of this caller
    known = site.callers.submit(site.post, "free", PICTURE, {"Prefer": "wait=1"})
    eventually(lambda: alive(site), ANSWER_SECONDS, "the request waits", lambda many: many == 4)
    assert waits(site) == 3
    assert known.result(ANSWER_SECONDS).json["queue"]["ahead"] == 3


def test_a_caller_has_one_row_of_turns_in_lobby_and_table(site: Site) -> None:
    channel = site.worker(site.job())
    waiting = []
    for number in range(2):
        waiting.append(site.callers.submit(site.post, "free", PICTURE))
        eventually(lambda: alive(site), ANSWER_SECONDS, "the request waits", lambda many, least=number: many > least)  # type: ignore[misc]
    stored = site.submit().json
    row = site.queue.get(stored["id"]).result(ANSWER_SECONDS)
    assert row is not None
    assert (row.turn, stored["queue"]["position"]) == (3, 3)
    other = site.keep()  # of another caller, who has had nothing yet
    channel.grant(4)
    leases = channel.lease(4)
    order = [one["id"] for one in leases]
    assert (order.index(other) < order.index(stored["id"]), order[-1]) == (True, stored["id"])
    channel.say({"completions": [completion(one) for one in leases]})
    for one in waiting:
        assert one.result(ANSWER_SECONDS).status == 200
