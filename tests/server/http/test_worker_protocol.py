"""The internal port, as workers use it and as an attacker would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.blobs import pack_header
from server.http.internal import wire
from server.http.internal.channel import MOST_CREDITS
from tests.channel import Closed
from tests.running import MODEL
from tests.server.http.http_site import (
    ANSWER_SECONDS,
    LABELS,
    PICTURE,
    Reviews,
    Site,
    assert_problem,
    running,
)
from tests.waiting import eventually

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "tierserve.work.3",
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
        ({"Sec-WebSocket-Protocol": "tierserve.work.2"}, "asked for 'tierserve.work.2'"),
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
    assert "this server speaks tierserve.work.3" in answer.json["detail"]


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
        {"completions": [{**NOBODYS, "results": [{"labels": [{"label": "x", "score": "2"}]}]}]},
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
