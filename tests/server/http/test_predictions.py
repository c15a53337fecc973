"""Predictions, without real workers: they are kept, waited for, read and canceled."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

import pytest

from server.http.heads import HEAD_BYTES
from server.http.public.preference import LONGEST_WAIT, Preference
from server.http.public.representation import ENDED_BADLY
from server.queue import FINAL, NEVER_SEEN, DatabaseAway, Status, new_id
from tests.running import Answer
from tests.server.given import HandClock, submission
from tests.server.http.http_site import (
    ANSWER_SECONDS,
    ASYNC,
    LABELS,
    PICTURE,
    PLACES,
    Site,
    assert_problem,
    completion,
    waits,
)
from tests.waiting import eventually


def test_what_is_kept_is_answered_with_where_it_stands(site: Site) -> None:
    answer = site.submit(headers={"X-Request-Id": "mine"})
    assert answer.status == 202
    assert answer.headers["Location"] == answer.json["urls"]["get"] == f"/v1/predictions/{answer.json['id']}"
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert (answer.headers["Retry-After"], answer.headers["X-Request-Id"]) == ("1", "mine")
    assert (answer.json["status"], answer.json["model"]) == ("queued", "tf_efficientnet_lite0")
    assert answer.json["queue"] == {"position": 1, "ahead": 0, "reason": NEVER_SEEN.reason}
    kept = site.queue.get(answer.json["id"]).result(ANSWER_SECONDS)
    assert kept is not None
    assert (kept.owner, kept.top_k, kept.deadline_at - kept.accepted_at) == ("anonymous", 5, 3600)
    assert site.get(answer.headers["Location"]).json == answer.json


def test_what_a_client_wishes_is_kept(site: Site) -> None:
    given = {"Content-Type": "image/png", "Cancel-After": "1.5m", **ASYNC}
    answer = site.post("premium", PICTURE, given, "?top_k=100")
    kept = site.queue.get(answer.json["id"]).result(ANSWER_SECONDS)
    assert kept is not None
    assert (kept.tier, kept.top_k, kept.deadline_at - kept.accepted_at) == ("premium", 100, 90)


def test_positions_move_up(site: Site) -> None:
    urls = [site.submit().headers["Location"] for _ in range(3)]
    places = [site.get(url).json["queue"] for url in urls]
    assert [(place["position"], place["ahead"]) for place in places] == [(1, 0), (2, 1), (3, 2)]
    assert "eta_seconds" not in places[0]
    site.ask("DELETE", urls[0])
    assert site.get(urls[2]).json["queue"]["position"] == 2


@pytest.mark.parametrize(
    ("given", "applied"),
    [
        ("wait=1", "wait=1"),
        ('handling=lenient, WAIT = "0"', "wait=0"),
        ("respond-async", "respond-async"),
        ("wait=soon, respond-async, handling=strict", "respond-async"),
        ("respond-async, wait=0", "wait=0"),
    ],
)
def test_what_was_heeded_of_a_preference_is_told(shared: Site, given: str, applied: str) -> None:
    began = time.monotonic()
    answer = shared.post("free", PICTURE, {"Prefer": given})
    assert (answer.status, answer.headers["Preference-Applied"]) == (202, applied)
    assert time.monotonic() - began >= (1 if applied == "wait=1" else 0)


def test_preferences_that_mean_nothing_are_ignored(site: Site) -> None:
    asking = site.callers.submit(site.post, "free", PICTURE, {"Prefer": "wait=soon, handling=lenient"})
    finish_next(site)
    assert asking.result(ANSWER_SECONDS).status == 200
    assert "Preference-Applied" not in asking.result().headers


def finish_next(site: Site, name: str = "job") -> None:
    """Wait for the next prediction, and do with it what a worker does."""
    token = site.job(name)
    (prediction,) = site.lease(token)
    assert site.complete(prediction, token) == ["accepted"]


def test_who_waits_is_answered_at_the_end(site: Site) -> None:
    url = site.submit().headers["Location"]
    reading = [site.callers.submit(site.get, f"{url}?wait=60") for _ in range(3)]
    eventually(lambda: len(site.services.underway), ANSWER_SECONDS, "all of them wait", lambda many: many == 3)
    finish_next(site)
    answers = [one.result(ANSWER_SECONDS) for one in reading]
    for answer in answers:
        assert answer.json["status"] == "succeeded"
        assert answer.json["results"] == [{"index": 0, "status": "succeeded", **LABELS[0], "error": None}]
    site.idle()
    assert site.get(url).json == answers[0].json


def test_who_waits_learns_of_an_end_whose_news_was_lost(site: Site) -> None:
    urls = [site.submit().headers["Location"] for _ in range(2)]
    reading = [site.callers.submit(site.get, f"{url}?wait=60") for url in urls]
    eventually(lambda: len(site.services.underway), ANSWER_SECONDS, "both wait", lambda many: many == 2)
    site.database.mute = True
    for url in urls:
        site.queue.cancel(url.rpartition("/")[2]).result(ANSWER_SECONDS)
    answers = [one.result(ANSWER_SECONDS) for one in reading]  # long before the 60 s are over
    assert [answer.json["status"] for answer in answers] == ["canceled"] * 2


def test_a_full_queue_says_429_before_the_body(small: Site) -> None:
    assert [small.submit().status for _ in range(PLACES)] == [202] * PLACES
    refused = small.submit()
    assert_problem(refused, 429, "queue_full")
    assert (refused.json["limit_queued"], refused.json["queued"]) == (PLACES, PLACES)
    assert 1 <= int(refused.headers["Retry-After"]) <= 5
    early = small.ask("POST", "/img-classification/free", None, {"Content-Length": "1000"})
    assert_problem(early, 429, "queue_full")
    assert small.submit("premium").status == 202


def test_a_queue_that_fills_up_during_an_upload_says_429_and_keeps_nothing(small: Site) -> None:
    head = b"POST /img-classification/free HTTP/1.1\r\nHost: localhost\r\nPrefer: respond-async\r\n"
    head += b"Content-Length: 103\r\n\r\n"
    with small.connected() as connection:
        connection.sendall(head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        assert [small.submit().status for _ in range(PLACES)] == [202] * PLACES
        connection.sendall(PICTURE)
        assert connection.recv(65536).startswith(b"HTTP/1.1 429 ")
    assert len(list(small.blobs.older_than(-3600))) == waits(small) == PLACES


def test_the_same_key_waits_for_the_end_of_the_first(site: Site) -> None:
    key = {"Idempotency-Key": "a"}
    first = site.submit(headers=key)
    asking = site.callers.submit(site.post, "free", PICTURE, {"Prefer": "wait=60", **key})
    eventually(lambda: set(site.services.underway), ANSWER_SECONDS, "the second one is under way")
    finish_next(site)
    answer = asking.result(ANSWER_SECONDS)
    assert (answer.status, answer.json["id"], answer.json["status"]) == (200, first.json["id"], "succeeded")


def test_cancel_is_idempotent_and_ends_the_waiting(site: Site) -> None:
    asking = site.callers.submit(site.post, "free", PICTURE, {"Prefer": "wait=60"})
    eventually(lambda: waits(site), ANSWER_SECONDS, "one waits")
    (key,) = site.blobs.older_than(-3600)
    for _ in range(2):
        assert site.ask("DELETE", f"/v1/predictions/{key}").json["status"] == "canceled"
    answer = asking.result(ANSWER_SECONDS)
    assert_problem(answer, 409, "canceled")
    assert answer.json["prediction"] == site.get(f"/v1/predictions/{key}").json


def test_a_deadline_that_passes_ends_the_waiting(site: Site) -> None:
    asking = site.callers.submit(site.post, "free", PICTURE, {"Prefer": "wait=60", "Cancel-After": "1s"})
    eventually(lambda: waits(site), ANSWER_SECONDS, "one waits")
    site.clock.now += 2
    site.queue.reclaim({"free": 3}).result(ANSWER_SECONDS)
    answer = asking.result(ANSWER_SECONDS)
    assert_problem(answer, 504, "deadline_passed")
    assert answer.json["prediction"]["status"] == "aborted"


def test_a_failure_is_told_to_who_waits(site: Site) -> None:
    token = site.job()
    asking = site.callers.submit(site.post, "free", PICTURE, {"Prefer": "wait=60"})
    (prediction,) = site.lease(token)
    result: dict[str, Any] = {"error": {"code": "image_broken", "detail": "this is no JPEG"}}
    assert site.hand_in([completion(prediction, [result])], token) == ["accepted"]
    answer = asking.result(ANSWER_SECONDS)
    assert_problem(answer, 422, "image_broken")
    assert answer.json["prediction"]["status"] == "failed"


def test_the_pace_gives_an_estimate(site: Site) -> None:
    for number in range(10):
        assert "eta_seconds" not in site.submit().json["queue"]
        finish_next(site, f"job{number}")
    answer = site.submit()
    assert answer.json["queue"]["eta_seconds"] == 0.01  # each prediction took 8 ms


STRANGE = ("%00", "p%00" + "0" * 33, "p" + "0" * 34 + "%0A", "%ff", "p" + "%D9%A3" * 34, "%ED%A0%80", "P" + "0" * 34)


def test_an_old_id_is_gone_and_a_strange_one_was_never_there(shared: Site) -> None:
    long_ago = HandClock(shared.clock() - 2 * 86400)
    old = shared.queue.ids.new(long_ago)
    forged = old[:-1] + ("1" if old[-1] == "0" else "0")
    for method in ("GET", "DELETE"):
        gone = shared.ask(method, f"/v1/predictions/{old}")
        assert_problem(gone, 410, "result_gone")
        assert gone.json["kept_seconds"] > 0
        for strange in (
            shared.queue.ids.new(shared.clock),
            new_id(long_ago),
            forged,
            "nothing",
            "p" * 35,
            "..%2f..%2fqueue.db",
            "x" * 5000,
            *STRANGE,
        ):
            assert_problem(shared.ask(method, f"/v1/predictions/{strange}"), 404, "no_such_prediction")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_belongs_to_an_owner_is_not_there_for_others(site: Site, method: str) -> None:
    own = site.queue.ids.new(site.clock, "anna")
    purged = site.queue.ids.new(HandClock(site.clock() - 2 * 86400), "anna")
    for one in (own, old := new_id(site.clock)):  # one of an older version does not tell its owner
        site.queue.submit(submission(site.clock, id=one, owner="anna"), 1000).result(ANSWER_SECONDS)
    for one in (own, old, purged):
        assert_problem(site.ask(method, f"/v1/predictions/{one}"), 404, "no_such_prediction")
        assert one in site.ask(method, f"/v1/predictions/{one}").json["detail"]
    assert waits(site) == 2
    # As of an id that never was, the database need not be asked.
    site.database.failure = DatabaseAway("away")
    for one in (own, purged):
        assert_problem(site.ask(method, f"/v1/predictions/{one}?wait=20"), 404, "no_such_prediction")


@pytest.mark.parametrize(
    "given", ["soon", "-1", "61", "", "%00", "%ff", "%D9%A3", "1_0", "1,2", "%", "0&wait=soon", "9" * 5000]
)
def test_a_wait_that_is_no_wait(shared: Site, given: str) -> None:
    answer = shared.get(f"/v1/predictions/{new_id(shared.clock)}?wait={given}")
    assert_problem(answer, 400, "bad_wait")
    assert answer.json["limit_seconds"] == 60


def test_of_a_parameter_that_is_given_twice_the_last_one_counts(shared: Site) -> None:
    url = shared.submit().headers["Location"]
    assert shared.get(f"{url}?wait=soon&wait=0").status == 200
    answer = shared.post("free", PICTURE, ASYNC, "?top_k=many&top_k=7")
    kept = shared.queue.get(answer.json["id"]).result(ANSWER_SECONDS)
    assert kept is not None
    assert kept.top_k == 7


def test_a_server_that_stops_answers_who_waits(site: Site) -> None:
    url = site.submit().headers["Location"]
    posting = site.callers.submit(site.post, "free", PICTURE, {"Prefer": "wait=60"})
    reading = site.callers.submit(site.get, f"{url}?wait=60")
    eventually(lambda: waits(site), ANSWER_SECONDS, "both wait", lambda many: many == 2)
    site.call(site.services.wakeups.drain)
    answers: list[Answer] = [asking.result(ANSWER_SECONDS) for asking in (posting, reading)]
    assert [answer.status for answer in answers] == [202, 200]
    for answer in (*answers, site.get("/healthz"), site.get("/nothing")):
        assert answer.headers["Connection"] == "close"
    assert site.submit().status == 202


def test_every_end_has_an_answer() -> None:
    """A client that waited gets a problem for every end but success."""
    assert set(ENDED_BADLY) == FINAL - {Status.SUCCEEDED}


def test_times_are_told_in_utc_and_durations_from_the_acceptance(site: Site) -> None:
    token, url = site.job(), site.submit().headers["Location"]
    site.clock.advance(2)
    (unused,) = site.lease(token)
    site.worker(token).release([unused])
    site.clock.advance(1)
    (one,) = site.lease(token)
    site.clock.advance(3)
    assert site.complete(one, token) == ["accepted"]
    told = site.get(url).json
    assert told["metrics"] == {"queue_ms": 2000, "predict_ms": 8, "total_ms": 6000}
    assert told["attempts"] == 1
    created, started, completed, deadline = (
        datetime.fromisoformat(told[name]) for name in ("created_at", "started_at", "completed_at", "deadline_at")
    )
    assert created.utcoffset() == timedelta(0)
    assert [(moment - created).total_seconds() for moment in (started, completed, deadline)] == [2, 6, 3600]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ([], 7),
        (["wait=10"], 10),
        (["wait=9999"], LONGEST_WAIT),
        (["wait=99999999999"], LONGEST_WAIT),
        (['WAIT = "5"'], 5),
        (["wait=5; until=done; a"], 5),
        (["respond-async;a=b"], 0),
        (["return=minimal", "respond-async"], 0),
        (["respond-async, wait=5"], 5),
        (["wait=5", "wait=6"], 5),
        (['note="wait=5, wait=6", wait=3'], 3),
        (['note="a \\", wait=5", wait=3'], 3),
        (['note="never closed, wait=5'], 7),
        (["wait, respond-async=no matter"], 7),
        (["wait=1e1"], 7),
        (["wait=5_0"], 7),
        (["wait=-5"], 7),
        (["wait=5 6"], 7),
        (["\xe9=1, ,, wait=3"], 3),
    ],
)
def test_a_request_waits_as_long_as_it_may(given: list[str], seconds: float) -> None:
    assert Preference.of(given, 7).seconds == seconds


@pytest.mark.parametrize("text", ['"\\', 'b;"aaaa,', " ", 'a="x,', ",", "a=", ";"])
def test_no_preference_takes_long_to_read(text: str) -> None:
    began = time.process_time()
    assert Preference.of([text * (HEAD_BYTES // len(text))], 7).seconds == 7
    assert time.process_time() - began < 1.0
