"""The internal port, as workers use it and as an attacker would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.blobs import BlobError, pack_header
from server.http.internal import delivery, wire
from server.http.internal.channel import MOST_CREDITS
from server.queue import ConnectionLost
from tests.channel import Closed
from tests.running import MODEL
from tests.server.http.http_site import (
    ANSWER_SECONDS,
    LABELS,
    PICTURE,
    QUIET_SECONDS,
    Reviews,
    Site,
    assert_problem,
    completion,
    running,
    waits,
)
from tests.waiting import eventually

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "tierserve.work.2",
}
BLOB = pack_header([len(PICTURE)]) + PICTURE
NOBODYS = {"id": "p", "token": "t", "model": MODEL, "predict_ms": 1, "results": LABELS}


@pytest.mark.parametrize("token", ["", "free.job.0000", "free.job", "\xfc"])
def test_without_a_token_there_is_no_channel(shared: Site, token: str) -> None:
    assert_problem(shared.refusal(token), 401, "bad_worker_token")


def test_only_a_bearer_token_counts(shared: Site) -> None:
    token = shared.job("bearer")
    assert shared.channel(token).hold() == []
    for given in (token, f"Basic {token}", f"bearer{token}"):
        answer = shared.internal.ask("GET", "/work/channel", None, UPGRADE | {"Authorization": given})
        assert_problem(answer, 401, "bad_worker_token")


def test_a_token_of_one_tier_is_worth_nothing_in_another(shared: Site) -> None:
    token = shared.job("of-free")
    assert_problem(shared.refusal(token.replace("free.", "premium.", 1)), 401, "bad_worker_token")
    assert_problem(shared.refusal(shared.tokens.mint("premium", "of-free")), 410, "unknown_job")


def test_a_job_that_nobody_opened_gets_no_channel(shared: Site) -> None:
    assert_problem(shared.refusal(shared.tokens.mint("free", "nobody")), 410, "unknown_job")


def test_a_token_that_nobody_can_judge_now_is_asked_for_again(tmp_path: Path) -> None:
    reviews = Reviews(b"secret")
    with running(tmp_path, tokens=reviews) as site:
        token = site.job()
        channel = site.channel(token)
        assert channel.hold() == []
        assert_problem(site.refusal("another"), 401, "bad_worker_token")
        reviews.away = True
        answer = site.refusal(token)
        assert_problem(answer, 503, "worker_token_unchecked")
        assert answer.headers["Retry-After"] == "1"
        assert channel.hold() == [], "a channel outlives the time in which nobody can judge its token"
        site.submit()
        channel.grant(1)
        assert len(channel.lease()) == 1
        reviews.away = False
        channel.token = "free.job.denied"
        with pytest.raises(Closed) as closed:
            channel.hold()
        assert closed.value.code == wire.TOKEN_DENIED


@pytest.mark.parametrize("other", [("free", "other"), ("premium", "mine")])
def test_the_token_of_another_worker_ends_a_channel(site: Site, other: tuple[str, str]) -> None:
    site.job("other")
    channel = site.channel(site.job("mine"))
    channel.hold()
    channel.token = site.tokens.mint(*other)
    with pytest.raises(Closed) as closed:
        channel.hold()
    assert closed.value.code == wire.TOKEN_DENIED


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Sec-WebSocket-Protocol": "tierserve.work.3"}, "asked for 'tierserve.work.3'"),
        ({"Sec-WebSocket-Protocol": ""}, "no protocol by name"),
        ({"Upgrade": "h2c"}, "without the upgrade"),
        ({"Connection": "close"}, "without the upgrade"),
        ({"Sec-WebSocket-Version": "8"}, "not of RFC 6455"),
        ({"Sec-WebSocket-Key": "short"}, "not of RFC 6455"),
    ],
)
def test_another_protocol_is_refused_in_words(shared: Site, headers: dict[str, str], words: str) -> None:
    bearer = {"Authorization": f"Bearer {shared.job('another-protocol')}"}
    answer = shared.internal.ask("GET", "/work/channel", None, UPGRADE | bearer | headers)
    assert_problem(answer, 400, "other_worker_protocol")
    assert words in answer.json["detail"]
    assert "this server speaks tierserve.work.2" in answer.json["detail"]


@pytest.mark.parametrize("path", ["lease", "complete", "extend", "release"])
def test_a_worker_of_an_older_release_is_dismissed_in_words(shared: Site, path: str) -> None:
    bearer = {"Authorization": f"Bearer {shared.job('older')}"}
    answer = shared.internal.ask("POST", f"/work/{path}", b'{"most": 1, "wait": 0}', bearer)
    assert_problem(answer, 410, "other_worker_protocol")
    assert "must be of one release" in answer.json["detail"]


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"credits": 0},
        {"credits": MOST_CREDITS + 1},
        {"credits": True},
        {"credits": 1, "tier": "premium"},
        {"renew": []},
        {"token": "t"},
        {"renew": ["p"], "token": "t"},
        {"renew": 65 * [["p", "t"]], "token": "t"},
        {"release": [["p", "t", "x"]]},
        {"completions": [{**NOBODYS, "results": []}]},
        {"completions": [{**NOBODYS, "results": [{"labels": [{"label": "x", "score": 2}]}]}]},
        {"completions": [{**NOBODYS, "results": [{"labels": "cat"}]}]},
        {"completions": [{**NOBODYS, "results": 101 * LABELS}]},
        {"completions": 65 * [NOBODYS]},
    ],
)
def test_a_message_that_breaks_the_schema_ends_the_channel(shared: Site, message: dict[str, Any]) -> None:
    closed = shared.rejected(shared.job("schemas"), message)
    assert closed.code == wire.BAD_MESSAGE
    assert closed.reason


def test_the_first_message_must_say_what_is_held(shared: Site) -> None:
    channel = shared.channel(shared.job("hasty"))
    channel.say({"credits": 1})
    assert channel.ended().code == wire.BAD_MESSAGE


def test_credits_are_bounded(site: Site) -> None:
    channel = site.worker(site.job())
    channel.grant(MOST_CREDITS)
    assert channel.hold() == []
    channel.grant(1)
    assert (closed := channel.ended()).code == wire.BAD_MESSAGE
    assert str(MOST_CREDITS) in closed.reason


@pytest.mark.parametrize("strange", ["", "\0", "p\0", "\ud800", "p\n", "\u0663", "p p", "p" * 65, "*"])
def test_ids_and_tokens_that_cannot_be_ours_break_the_schema(shared: Site, strange: str) -> None:
    token = shared.job("strange")
    for key, mark in ((strange, "t"), ("p", strange)):
        done = {**NOBODYS, "id": key, "token": mark}
        leases = [[key, mark]]
        for message in ({"completions": [done]}, {"release": leases}, {"renew": leases, "token": token}):
            assert shared.rejected(token, message).code == wire.BAD_MESSAGE


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
    assert shared.rejected(shared.job("models"), done).code == wire.BAD_MESSAGE


def test_a_result_must_say_which_model_it_is_of(shared: Site) -> None:
    done = {"completions": [{name: value for name, value in NOBODYS.items() if name != "model"}]}
    closed = shared.rejected(shared.job("models"), done)
    assert closed.code == wire.BAD_MESSAGE
    assert "model" in closed.reason


def test_a_prediction_says_which_model_answered(site: Site) -> None:
    token = site.job()
    asking = site.callers.submit(site.post, "free", PICTURE, {"Prefer": "wait=60"})
    (one,) = site.lease(token)
    assert site.complete(one, token) == ["accepted"]
    assert asking.result(ANSWER_SECONDS).json["model"] == MODEL
    again = {**NOBODYS, "id": one["id"], "token": one["token"], "model": "other@0"}
    assert site.hand_in([again], token) == ["duplicate"]
    assert site.get(f"/v1/predictions/{one['id']}").json["model"] == MODEL


def test_a_prediction_that_no_model_answered_says_what_its_tier_had(site: Site) -> None:
    gone = site.keep()
    site.blobs.delete([gone])
    site.worker(site.job()).grant(1)
    ended = eventually(
        lambda: site.get(f"/v1/predictions/{gone}").json,
        ANSWER_SECONDS,
        "it fails",
        lambda found: found["status"] == "failed",
    )
    assert ended["model"] == "lite0"


@pytest.mark.parametrize("text", ["", "[]", "null", '{"credits": NaN}', '{"credits"', "[" * 100_000])
def test_what_is_no_object_of_json_ends_the_channel(shared: Site, text: str) -> None:
    assert shared.rejected(shared.job("json"), text).code == wire.BAD_MESSAGE


def test_a_frame_brings_pictures_and_their_labels_end_it(site: Site) -> None:
    token = site.job()
    urls = [site.submit().headers["Location"] for _ in range(2)]
    first, second = site.lease(token, most=2)
    for one, url in zip((first, second), urls, strict=True):
        assert url.endswith(one["id"])
        assert (one["blob"], one["top_k"]) == (BLOB, 5)
    assert site.worker(token).renew == 10
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


def test_outcomes_ride_on_the_next_frame(site: Site) -> None:
    channel = site.worker(site.job())
    site.submit()
    channel.grant(1)
    (one,) = channel.lease()
    channel.say({"completions": [completion(one)]})
    eventually(lambda: waits(site, leased=True), ANSWER_SECONDS, "the result is stored", lambda many: many == 0)
    assert channel.outcomes == {}
    site.submit()
    channel.grant(1)
    channel.lease()
    assert channel.outcomes == {one["id"]: ["accepted"]}


def test_outcomes_that_ride_on_nothing_are_sent_before_they_are_many(site: Site) -> None:
    channel = site.worker(site.job())
    for number in range(3):
        channel.say({"completions": [{**NOBODYS, "id": f"p{number}x{other}"} for other in range(32)]})
    channel.receive()
    assert len(channel.outcomes) > 64


def test_pictures_are_read_from_disk_when_they_are_not_in_memory(site: Site) -> None:
    key, token = site.keep(), site.job()
    (one,) = site.lease(token)
    assert (one["id"], one["blob"]) == (key, BLOB)


def test_a_prediction_whose_picture_is_gone_fails_and_takes_no_credit(site: Site) -> None:
    gone, there = site.keep(), site.keep()
    site.blobs.delete([gone])
    channel = site.worker(site.job())
    channel.grant(1)
    assert [one["id"] for one in channel.lease()] == [there]
    assert site.get(f"/v1/predictions/{gone}").json["error"]["code"] == "blob_missing"


def test_workers_share_what_waits(site: Site) -> None:
    first, second = (site.worker(site.job(name)) for name in ("first", "second"))
    for _ in range(4):
        site.submit()
    first.grant(64)
    assert len(first.lease(4, quiet=QUIET_SECONDS)) >= 2
    second.grant(1)
    assert len(second.lease(1, QUIET_SECONDS)) <= 1


def test_leases_are_renewed_and_released(site: Site) -> None:
    token = site.job()
    url = site.submit().headers["Location"]
    (one,) = site.lease(token)
    channel, nobodys = site.worker(token), {"id": "p" * 35, "token": "guess"}
    assert channel.hold([one, nobodys]) == ["p" * 35]
    site.clock.advance(20)
    assert channel.hold([one]) == []
    site.clock.advance(20)
    site.queue.reclaim({"free": 3}).result(ANSWER_SECONDS)
    assert site.get(url).json["status"] == "leased", "the renewal has prolonged it"
    channel.release([one, nobodys])
    answer = site.get(url).json
    assert (answer["status"], answer["attempts"]) == ("queued", 0)
    assert channel.hold([one]) == [one["id"]]


def test_what_was_lost_on_its_way_waits_again_at_no_cost(site: Site) -> None:
    token = site.job()
    urls = [site.submit().headers["Location"] for _ in range(2)]
    held, lost = site.lease(token, most=2)
    site.worker(token).break_off()
    channel = site.channel(token)
    assert channel.hold([held]) == []
    answers = [site.get(url).json for url in urls]
    assert [(answer["status"], answer["attempts"]) for answer in answers] == [("leased", 1), ("queued", 0)]
    assert channel.complete([completion(held)]) == ["accepted"]
    channel.grant(1)
    assert [one["id"] for one in channel.lease()] == [lost["id"]]


def test_a_result_whose_outcome_was_lost_is_sent_again(site: Site) -> None:
    token = site.job()
    site.submit()
    (one,) = site.lease(token)
    site.worker(token).say({"completions": [completion(one)]})
    site.worker(token).break_off()
    channel = site.channel(token)
    channel.say({"completions": [completion(one)], "renew": [], "token": token})
    channel.receive_until(lambda: channel.outcomes)
    assert channel.outcomes[one["id"]] in (["accepted"], ["duplicate"])


def test_a_prediction_of_a_hundred_pictures_is_completed(site: Site) -> None:
    key, token = site.keep(images=100), site.job()
    (one,) = site.lease(token)
    assert site.hand_in([completion(one, 100 * LABELS)], token) == ["accepted"]
    assert [result["index"] for result in site.get(f"/v1/predictions/{key}").json["results"]] == list(range(100))


def test_somebody_elses_prediction_is_not_completed(site: Site) -> None:
    url = site.submit().headers["Location"]
    (one,) = site.lease(site.job("its"))
    for found in ({**one, "token": "guess"}, {**one, "id": "p" * 35}, one):
        assert site.complete(found, site.job("another")) == ["unknown"]
    assert site.get(url).json["status"] == "leased"


def test_a_job_that_ended_is_dismissed(site: Site) -> None:
    token = site.job()
    channel, late = site.worker(token), site.channel(site.job("late"))
    for name in ("job", "late"):
        site.queue.end_job(name, "killed").result(ANSWER_SECONDS)
    assert_problem(site.refusal(token), 410, "unknown_job")
    late.say({"renew": [], "token": late.token})
    assert late.ended().code == wire.UNKNOWN_JOB
    channel.grant(1)
    assert channel.ended().code == wire.UNKNOWN_JOB


def test_a_second_channel_of_a_job_ends_the_first(site: Site) -> None:
    token = site.job()
    first = site.worker(token)
    first.grant(1)
    second = site.channel(token)
    assert first.ended().code == wire.ANOTHER
    second.hold()
    site.submit()
    second.grant(1)
    assert len(second.lease()) == 1


def test_each_of_several_that_wait_gets_one(site: Site) -> None:
    channels = [site.worker(site.job(f"job{number}")) for number in range(3)]
    for channel in channels:
        channel.grant(1)
    urls = {site.submit().headers["Location"] for _ in range(3)}
    got = [one["id"] for channel in channels for one in channel.lease()]
    assert {f"/v1/predictions/{key}" for key in got} == urls


def test_a_worker_that_hung_up_while_it_waited_gets_nothing(site: Site) -> None:
    channel = site.worker(site.job())
    channel.grant(1)
    channel.break_off()
    no_channel_is_left(site)
    url = site.submit().headers["Location"]
    eventually(site.tasks, ANSWER_SECONDS, "nothing is done any more", lambda tasks: tasks == [])
    answer = site.get(url).json
    assert (answer["status"], answer["attempts"]) == ("queued", 0)


def no_channel_is_left(site: Site) -> None:
    def seats() -> list[object]:
        return site.call(lambda: [seat for seats in site.services.handout._seats.values() for seat in seats])

    eventually(seats, ANSWER_SECONDS, "no worker is connected", lambda found: not found)


def test_what_was_leased_to_a_worker_that_hung_up_waits_again_at_no_cost(site: Site) -> None:
    key = site.keep()
    site.blobs.released.clear()
    channel = site.worker(site.job())
    channel.grant(1)
    assert site.blobs.asked.wait(ANSWER_SECONDS)
    assert site.get(f"/v1/predictions/{key}").json["status"] == "leased"
    channel.break_off()
    no_channel_is_left(site)
    site.blobs.released.set()
    answer = eventually(
        lambda: site.get(f"/v1/predictions/{key}").json,
        ANSWER_SECONDS,
        "it waits again",
        lambda found: found["status"] == "queued",
    )
    assert answer["attempts"] == 0


def test_a_lease_whose_pictures_cannot_be_read_is_handed_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FAILED_SECONDS", 1.0)
    key = site.keep()
    channel = site.worker(site.job())
    site.blobs.failure = BlobError("the disk is sick")
    channel.grant(1)
    assert site.blobs.asked.wait(ANSWER_SECONDS)
    answer = eventually(
        lambda: site.get(f"/v1/predictions/{key}").json,
        ANSWER_SECONDS,
        "it waits again",
        lambda found: found["status"] == "queued",
    )
    assert answer["attempts"] == 0
    site.blobs.failure = None
    assert [one["id"] for one in channel.lease()] == [key], "the worker is given it when the disk is well"


def test_results_that_cannot_be_stored_are_asked_for_again(site: Site) -> None:
    token = site.job()
    url = site.submit().headers["Location"]
    (one,) = site.lease(token)
    site.database.failure = ConnectionLost("the connection broke")
    channel = site.worker(token)
    channel.say({"completions": [completion(one)], "renew": [], "token": token})
    channel.receive_until(lambda: channel.outcomes)
    assert channel.outcomes == {one["id"]: ["again"]}
    site.database.failure = None
    assert site.complete(one, token) == ["accepted"]
    assert site.get(url).json["status"] == "succeeded"


def test_a_worker_comes_again_when_the_queue_cannot_say_what_it_held(site: Site) -> None:
    channel = site.channel(site.job())
    site.database.write_failure = ConnectionLost("the connection broke")
    channel.say({"renew": [], "token": channel.token})
    assert channel.ended().code == wire.BUSY


def test_a_server_that_stops_says_so_and_takes_results(site: Site) -> None:
    token = site.job("busy")
    site.submit()
    (one,) = site.lease(token)
    channel = site.worker(token)
    site.call(site.services.wakeups.drain)
    site.call(site.services.handout.stop)
    channel.receive_until(lambda: channel.stopping)
    assert_problem(refused := site.refusal(site.job("another")), 503, "stopping")
    assert (refused.headers["Connection"], refused.headers["Retry-After"]) == ("close", "1")
    site.submit()
    channel.grant(1)
    assert channel.lease(1, QUIET_SECONDS) == []
    assert channel.complete([completion(one)]) == ["accepted"]
    assert LABELS[0]["labels"] == site.get(f"/v1/predictions/{one['id']}").json["results"][0]["labels"]


def test_a_server_that_ends_closes_its_channels_in_words(tmp_path: Path) -> None:
    with running(tmp_path) as site:
        channel = site.worker(site.job())
        site.end_connections()
        closed = channel.ended()
        assert (closed.code, closed.reason) == (wire.STOPS, "this server stops")
