"""The internal port, as workers use it and as an attacker would."""

from __future__ import annotations

import json
import socket
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from server.blobs import BlobError, pack_header
from server.http.internal import worker
from server.queue import ConnectionLost, TierView
from tests.running import MODEL, Answer
from tests.server.http.http_site import (
    ANSWER_SECONDS,
    LABELS,
    PICTURE,
    Reviews,
    Site,
    assert_problem,
    leased,
    running,
)
from tests.waiting import eventually

WAIT = 10.0  # a heartbeat, which is the longest wait that a worker may ask for
NOW = {"most": 1, "wait": 0}
BLOB = pack_header([len(PICTURE)]) + PICTURE
NOBODYS = {"id": "p", "token": "t", "model": MODEL, "predict_ms": 1, "results": LABELS}


@pytest.mark.parametrize("path", ["lease", "complete", "extend", "release"])
@pytest.mark.parametrize("token", ["", "free.job.0000", "free.job", "\xfc"])
def test_without_a_token_nothing_is_given(shared: Site, path: str, token: str) -> None:
    assert_problem(shared.work(path, {}, token), 401, "bad_worker_token")


def test_only_a_bearer_token_counts(shared: Site) -> None:
    token = shared.job("bearer")
    body = json.dumps(NOW).encode()
    assert shared.internal.ask("POST", "/work/lease", body, {"Authorization": f"Bearer {token}"}).status == 204
    for given in (token, f"Basic {token}", f"bearer{token}"):
        answer = shared.internal.ask("POST", "/work/lease", body, {"Authorization": given})
        assert_problem(answer, 401, "bad_worker_token")


def test_a_token_of_one_tier_is_worth_nothing_in_another(shared: Site) -> None:
    token = shared.job("of-free")
    assert_problem(shared.work("lease", NOW, token.replace("free.", "premium.", 1)), 401, "bad_worker_token")


def test_a_token_that_nobody_can_judge_now_is_asked_for_again(tmp_path: Path) -> None:
    reviews = Reviews(b"secret")
    with running(tmp_path, tokens=reviews) as site:
        token = site.job()
        assert site.work("lease", NOW, token).status == 204
        assert_problem(site.work("lease", NOW, "another"), 401, "bad_worker_token")
        reviews.away = True
        answer = site.work("lease", NOW, token)
        assert_problem(answer, 503, "worker_token_unchecked")
        assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("lease", {"most": 0, "wait": 0}),
        ("lease", {"most": 1, "wait": 1e9}),
        ("lease", {"most": 1, "wait": 0, "tier": "premium"}),
        ("complete", {"completions": [{**NOBODYS, "results": []}]}),
        (
            "complete",
            {"completions": [{**NOBODYS, "results": [{"labels": [{"label": "x", "score": 2}]}]}]},
        ),
        ("complete", {"completions": [{**NOBODYS, "results": [{"labels": "cat"}]}]}),
        ("extend", {"leases": ["p"]}),
        ("release", {"leases": [["p", "t", "x"]]}),
    ],
)
def test_bodies_that_break_the_schema_change_nothing(shared: Site, path: str, body: Any) -> None:
    assert_problem(shared.work(path, body, shared.job("schemas")), 422, "bad_worker_request")


@pytest.mark.parametrize("strange", ["", "\0", "p\0", "\ud800", "p\n", "\u0663", "p p", "p" * 65, "*"])
def test_ids_and_tokens_that_cannot_be_ours_break_the_schema(shared: Site, strange: str) -> None:
    token = shared.job("strange")
    for named in ({"id": strange, "token": "t"}, {"id": "p", "token": strange}):
        done = {"completions": [{**NOBODYS, **named, "results": LABELS}]}
        assert_problem(shared.work("complete", done, token), 422, "bad_worker_request")
        for path in ("extend", "release"):
            leases = {"leases": [list(named.values())]}
            assert_problem(shared.work(path, leases, token), 422, "bad_worker_request")


STRANGE_MODELS = (
    "",
    "m",
    "m@",
    "@0",
    "../m@0",
    "m/n@0",
    "m@0@0",
    "m@0\n",
    "m@0\0",
    "m\ud800@0",
    "m" * 120 + "@0",
    7,
    None,
)


@pytest.mark.parametrize("strange", STRANGE_MODELS)
def test_a_model_that_is_no_name_with_a_version_breaks_the_schema(shared: Site, strange: object) -> None:
    done = {"completions": [{**NOBODYS, "model": strange}]}
    assert_problem(shared.work("complete", done, shared.job("models")), 422, "bad_worker_request")


def test_a_result_must_say_which_model_it_is_of(shared: Site) -> None:
    done = {"completions": [{name: value for name, value in NOBODYS.items() if name != "model"}]}
    answer = shared.work("complete", done, shared.job("models"))
    assert_problem(answer, 422, "bad_worker_request")
    assert "model" in answer.json["detail"]


def test_a_prediction_says_which_model_answered(site: Site) -> None:
    token, named = site.job(), "tf_efficientnet_lite0"
    asking = site.callers.submit(site.post, "free", PICTURE, {"Prefer": "wait=60"})
    (one,) = eventually(lambda: site.lease(token), ANSWER_SECONDS, "a prediction to lease")
    assert site.get(f"/v1/predictions/{one['id']}").json["model"] == named
    assert site.complete(one, token) == ["accepted"]
    assert asking.result(ANSWER_SECONDS).json["model"] == MODEL
    again = {**NOBODYS, "id": one["id"], "token": one["token"], "model": "other@0"}
    assert site.work("complete", {"completions": [again]}, token).json == {"outcomes": ["duplicate"]}
    assert site.get(f"/v1/predictions/{one['id']}").json["model"] == MODEL


def test_a_prediction_that_no_model_answered_says_what_its_tier_had(site: Site) -> None:
    gone = site.keep()
    site.blobs.delete([gone])
    assert site.lease(site.job()) == []
    ended = site.get(f"/v1/predictions/{gone}").json
    assert (ended["status"], ended["model"]) == ("failed", "lite0")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"completions": [{"id": "p", "token": "t", "results": [{"labels": []}], "predict_ms": NaN}]}',
    ],
)
def test_not_a_number_is_not_json(shared: Site, body: bytes) -> None:
    assert_problem(shared.work("complete", body, shared.job("numbers")), 400, "bad_json")


def test_a_lease_brings_pictures_and_their_labels_end_it(site: Site) -> None:
    token = site.job()
    urls = [site.submit().headers["Location"] for _ in range(2)]
    first, second = site.lease(token, most=8)
    for one, url in zip((first, second), urls, strict=True):
        assert url.endswith(one["id"])
        assert (one["blob"], one["top_k"], one["renew"]) == (BLOB, 5, 10)
    assert site.complete(first, token) == ["accepted"]
    assert site.complete(first, token) == ["duplicate"]
    kept = [found.json["status"] for found in map(site.get, urls)]
    assert kept == ["succeeded", "leased"]
    eventually(
        lambda: list(site.blobs.older_than(-3600)),
        ANSWER_SECONDS,
        "the picture that has its labels is deleted",
        lambda keys: keys == [second["id"]],
    )


def test_pictures_are_read_from_disk_when_they_are_not_in_memory(site: Site) -> None:
    key, token = site.keep(), site.job()
    (one,) = site.lease(token)
    assert (one["id"], one["blob"]) == (key, BLOB)


def test_a_prediction_whose_picture_is_gone_fails(site: Site) -> None:
    gone, there = site.keep(), site.keep()
    site.blobs.delete([gone])
    assert [one["id"] for one in site.lease(site.job(), most=2)] == [there]
    assert site.get(f"/v1/predictions/{gone}").json["error"]["code"] == "blob_missing"


def test_workers_share_what_waits(site: Site) -> None:
    site.queue.report("free", TierView(running=2, healthy=True)).result(ANSWER_SECONDS)
    for _ in range(4):
        site.submit()
    assert len(site.lease(site.job(), most=64)) == 2


def test_leases_are_extended_and_released(site: Site) -> None:
    token = site.job()
    url = site.submit().headers["Location"]
    (one,) = site.lease(token)
    pairs = [[one["id"], one["token"]], ["p" * 35, "guess"]]
    assert site.work("extend", {"leases": pairs}, token).json == {"lost": ["p" * 35]}
    assert site.work("release", {"leases": pairs}, token).json == {"released": 1}
    assert site.get(url).json["status"] == "queued"
    assert site.work("extend", {"leases": pairs[:1]}, token).json == {"lost": [one["id"]]}


def test_a_prediction_of_a_hundred_pictures_is_completed(site: Site) -> None:
    key, token = site.keep(images=100), site.job()
    (one,) = site.lease(token)
    named = {"id": one["id"], "token": one["token"], "model": MODEL, "results": 101 * LABELS, "predict_ms": 8}
    assert_problem(site.work("complete", {"completions": [named]}, token), 422, "bad_worker_request")
    hundred = {**named, "results": 100 * LABELS}
    assert site.work("complete", {"completions": [hundred]}, token).json == {"outcomes": ["accepted"]}
    assert [result["index"] for result in site.get(f"/v1/predictions/{key}").json["results"]] == list(range(100))


def test_somebody_elses_prediction_is_not_completed(site: Site) -> None:
    url = site.submit().headers["Location"]
    (one,) = site.lease(site.job("its"))
    for found in ({**one, "token": "guess"}, {**one, "id": "p" * 35}, one):
        assert site.complete(found, site.job("another")) == ["unknown"]
    assert site.get(url).json["status"] == "leased"


def test_a_job_that_ended_is_dismissed(site: Site) -> None:
    token = site.job()
    assert site.lease(token) == []
    site.queue.end_job("job", "killed").result(ANSWER_SECONDS)
    assert_problem(site.work("lease", NOW, token), 410, "unknown_job")


def waiting(site: Site, name: str, wait: float = WAIT) -> Future[Answer]:
    """Ask for work and wait. It returns when the server has found nothing and waits: then anything new wakes it."""
    token = site.job(name)
    asking = site.callers.submit(site.work, "lease", {"most": 1, "wait": wait}, token)
    asked_once(site, name)
    return asking


def asked_once(site: Site, name: str) -> None:
    def asked() -> bool:
        return any(job.asked_at for job in site.queue.jobs().result(ANSWER_SECONDS) if job.name == name)

    eventually(asked, ANSWER_SECONDS, f"{name} has asked for work")


def test_a_worker_that_waits_gets_what_comes(site: Site) -> None:
    asking = waiting(site, "job")
    url = site.submit().headers["Location"]
    (one,) = leased(asking.result(ANSWER_SECONDS))
    assert url.endswith(one["id"])


def test_a_worker_for_whom_nothing_comes_is_told(site: Site) -> None:
    assert waiting(site, "job", 0.1).result(ANSWER_SECONDS).status == 204


def test_leases_that_failed_take_no_wake_up_from_the_one_that_waits(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LOOK_AGAIN_SECONDS", WAIT)
    tokens = [site.job(f"failed{number}") for number in range(3)]
    site.database.failure = ConnectionLost("the connection broke")
    for token in tokens:
        assert_problem(site.work("lease", {"most": 1, "wait": WAIT}, token), 503, "storage_unavailable")
    site.database.failure = None
    asking = waiting(site, "alive")
    assert site.submit().status == 202
    # An answer before WAIT proves the wake-up: without it the worker's request looks again only after WAIT.
    assert len(leased(asking.result(WAIT / 2))) == 1


def test_each_of_several_that_wait_gets_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LOOK_AGAIN_SECONDS", WAIT)
    asking = [waiting(site, f"job{number}") for number in range(3)]
    urls = {site.submit().headers["Location"] for _ in range(3)}
    got = [leased(one.result(WAIT / 2)) for one in asking]
    assert {f"/v1/predictions/{one['id']}" for (one,) in got} == urls


def hang_up_amid(site: Site, name: str) -> socket.socket:
    """Ask for work as a worker, without reading the answer; returns the connection."""
    token, body = site.job(name), b'{"most": 1, "wait": 60}'
    head = f"POST /work/lease HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    head += f"Authorization: Bearer {token}\r\n"
    connection = socket.create_connection(("127.0.0.1", site.internal.port), timeout=ANSWER_SECONDS)
    connection.sendall(f"{head}\r\n".encode() + body)
    return connection


def test_a_worker_that_hung_up_while_it_waited_gets_nothing(site: Site) -> None:
    with hang_up_amid(site, "gone"):
        asked_once(site, "gone")
    site.idle()
    url = site.submit().headers["Location"]
    eventually(site.tasks, ANSWER_SECONDS, "nobody waits any more", lambda tasks: tasks == [])
    answer = site.get(url).json
    assert (answer["status"], answer["attempts"]) == ("queued", 0)


def test_what_was_leased_to_a_worker_that_hung_up_waits_again_at_no_cost(site: Site) -> None:
    key = site.keep()
    site.blobs.released.clear()
    with hang_up_amid(site, "gone"):
        assert site.blobs.asked.wait(ANSWER_SECONDS)
        assert site.get(f"/v1/predictions/{key}").json["status"] == "leased"
    site.idle()
    site.blobs.released.set()
    answer = eventually(
        lambda: site.get(f"/v1/predictions/{key}").json,
        ANSWER_SECONDS,
        "it waits again",
        lambda found: found["status"] == "queued",
    )
    assert answer["attempts"] == 0


def test_a_lease_whose_pictures_cannot_be_read_is_handed_back(site: Site) -> None:
    key, token = site.keep(), site.job()
    site.blobs.failure = BlobError("the disk is sick")
    assert_problem(site.work("lease", NOW, token), 503, "storage_unavailable")
    answer = site.get(f"/v1/predictions/{key}").json
    assert (answer["status"], answer["attempts"]) == ("queued", 0)


def test_a_server_that_stops_sends_idle_workers_away_and_takes_results(site: Site) -> None:
    token = site.job("busy")
    site.submit()
    (one,) = site.lease(token)
    asking = waiting(site, "idle")
    site.call(site.services.wakeups.drain)
    told: Answer = asking.result(ANSWER_SECONDS)
    assert_problem(told, 503, "stopping")
    assert (told.headers["Connection"], told.headers["Retry-After"]) == ("close", "1")
    assert_problem(site.work("lease", {"most": 1, "wait": 10}, token), 503, "stopping")
    assert site.complete(one, token) == ["accepted"]
    assert LABELS[0]["labels"] == site.get(f"/v1/predictions/{one['id']}").json["results"][0]["labels"]
