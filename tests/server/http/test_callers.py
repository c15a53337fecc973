"""Callers are recognized by their keys, and each sees only what is its own."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from server.http.services import WRONG_KEYS
from server.metrics import PERIOD_SECONDS, SHOWN_OWNERS
from tests.running import Answer
from tests.server.given import HandClock, submission
from tests.server.http.http_site import (
    ANSWER_SECONDS,
    ASYNC,
    PICTURE,
    Site,
    assert_problem,
    running,
    settings_with,
    waits,
)

UNKNOWN = "tsk_0123456789ab_" + "a" * 32
OUTSIDE = ("server.host=0.0.0.0", "server.trustedProxies={127.0.0.1/32}")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site that clients reach through a proxy."""
    with running(tmp_path, settings_with(*OUTSIDE)) as found:
        yield found


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def sent(site: Site, headers: dict[str, str], tier: str = "premium") -> Answer:
    return site.submit(tier, headers)


def read(site: Site, prediction_id: str, key: str | None, method: str = "GET") -> Answer:
    return site.ask(method, f"/v1/predictions/{prediction_id}", None, {} if key is None else bearer(key))


@pytest.mark.parametrize("form", ["Authorization: Bearer {}", "authorization: bearer   {} ", "X-API-Key: {}"])
def test_a_key_opens_its_tiers(site: Site, form: str) -> None:
    name, _, value = form.format(site.key("anna", ["premium"])).partition(": ")
    made = sent(site, {name: value})
    assert made.status == 202
    kept = site.queue.get(made.json["id"]).result(ANSWER_SECONDS)
    assert kept is not None
    assert kept.owner == "anna"
    refused = sent(site, {name: value}, "free")
    assert_problem(refused, 403, "tier_not_allowed")
    assert refused.json["tiers"] == ["premium"]
    assert "Www-Authenticate" not in refused.headers


def test_other_schemes_are_not_for_us(site: Site) -> None:
    """A proxy may have asked for a name and a password of its own."""
    assert sent(site, {"Authorization": "Basic YW5uYTpzZWNyZXQ="}, "free").status == 202
    assert_problem(sent(site, {"Authorization": "Basic YW5uYTpzZWNyZXQ="}), 401, "key_missing")


def test_two_keys_are_one_too_many(site: Site) -> None:
    one, other = site.key("anna", ["premium"]), site.key("bert", ["premium"])
    assert sent(site, {**bearer(one), "X-API-Key": one}).status == 202
    assert_problem(sent(site, {**bearer(one), "X-API-Key": other}), 400, "two_keys")
    assert_problem(sent(site, {**bearer(one), "X-API-Key": ""}), 400, "two_keys")
    head = "POST /img-classification/premium HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n"
    twice = "".join(f"Authorization: Bearer {key}\r\n" for key in (one, other))
    assert b'"two_keys"' in site.exchange(f"{head}{twice}\r\n".encode())


@pytest.mark.parametrize("text", [UNKNOWN, "", "tsk_", "x" * 8000, "caf\u00e9", UNKNOWN.upper(), "null"])
def test_what_is_no_key_of_ours_is_refused(site: Site, text: str) -> None:
    site.key("anna", ["premium"])
    for tier in ("free", "premium"):
        refused = sent(site, bearer(text), tier)
        assert_problem(refused, 401, "key_unknown")
        assert refused.headers["Www-Authenticate"] == "Bearer"
    assert_problem(site.ask("GET", "/v1/tiers", None, bearer(text)), 401, "key_unknown")
    assert site.queue.depths().result(ANSWER_SECONDS) == {}


def test_a_key_that_is_over_says_so_to_its_owner_only(site: Site) -> None:
    key = site.key("anna", ["premium"], expires_at=site.clock() + 60)
    wrong = key[:-1] + ("a" if key[-1] != "a" else "b")
    assert sent(site, bearer(key)).status == 202
    site.clock.advance(61)
    assert_problem(sent(site, bearer(key)), 401, "key_expired")
    site.queue.revoke_key(key.split("_")[1]).result(ANSWER_SECONDS)
    site.keyring.refresh()
    assert_problem(sent(site, bearer(key)), 401, "key_revoked")
    assert_problem(sent(site, bearer(wrong)), 401, "key_unknown")


def test_on_loopback_a_wrong_key_is_refused_too(tmp_path: Path) -> None:
    with running(tmp_path) as site:
        assert_problem(sent(site, bearer(UNKNOWN)), 401, "key_unknown")
        assert sent(site, bearer(site.key("anna", ["premium"]))).status == 202


def test_on_loopback_the_token_of_another_service_is_ignored(tmp_path: Path) -> None:
    with running(tmp_path) as site:
        assert sent(site, bearer("hf_abcdefghijkl")).status == 202
        assert sent(site, {"X-API-Key": "anything"}).status == 202
        assert site.ask("GET", "/v1/tiers", None, bearer("hf_abcdefghijkl")).status == 200


def test_where_keys_are_needed_every_token_counts_as_one(site: Site) -> None:
    assert_problem(sent(site, bearer("hf_abcdefghijkl"), "free"), 401, "key_unknown")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/tiers?key={}",
        "/v1/predictions/{}",
        "/{}",
        "/healthz?{}",
        "/img-classification/free?top_k=%74%73%6B_0123456789ab_aaa",
        "/img-classification/free?top_k=tsk%5F0123456789ab",
    ],
)
def test_a_key_in_a_url_is_refused_and_said_to_be_leaked(site: Site, path: str) -> None:
    key = site.key()
    ports: list[Any] = [site] if "classification" in path else [site, site.internal]
    for port in ports:
        refused = port.ask("POST" if "classification" in path else "GET", path.format(key), None, bearer(key))
        assert_problem(refused, 400, "key_in_url")
        assert "leaked" in refused.json["detail"]
        assert key.encode() not in refused.body


def test_many_wrong_keys_of_one_address_are_too_many(site: Site) -> None:
    key = site.key("anna", ["premium"])

    def asked(text: str, address: str) -> Answer:
        return sent(site, {**bearer(text), "X-Forwarded-For": address})

    for number in range(WRONG_KEYS):
        assert_problem(asked(f"{UNKNOWN[:-2]}b{number}", f"2001:db8::{number}"), 401, "key_unknown")
    refused = asked(UNKNOWN, "2001:db8::ffff")
    assert_problem(refused, 429, "too_many_wrong_keys")
    assert refused.json["limit_wrong_keys"] == WRONG_KEYS
    seconds = int(refused.headers["Retry-After"])
    assert 1 <= seconds <= 6
    # A right one is taken, and others are not concerned.
    assert asked(key, "2001:db8::ffff").status == 202
    assert_problem(asked(UNKNOWN, "2001:db8:0:1::1"), 401, "key_unknown")
    site.pace_clock.advance(seconds)
    assert_problem(asked(UNKNOWN, "2001:db8::ffff"), 401, "key_unknown")
    assert_problem(asked(UNKNOWN, "2001:db8::ffff"), 429, "too_many_wrong_keys")


def test_a_prediction_is_there_for_its_owner_only(site: Site) -> None:
    anna, other, bert = site.key("anna"), site.key("anna"), site.key("bert")
    own = sent(site, bearer(anna), "free").json["id"]
    for stranger in (bert, None):
        for method in ("GET", "DELETE"):
            assert_problem(read(site, own, stranger, method), 404, "no_such_prediction")
    assert waits(site) == 1
    assert read(site, own, other).json["status"] == "queued"
    assert read(site, own, other, "DELETE").json["status"] == "canceled"


def test_what_was_sent_without_a_key_is_there_for_whoever_has_its_id(site: Site) -> None:
    kept = sent(site, {}, "free").json["id"]
    assert read(site, kept, site.key()).json["status"] == "queued"
    assert read(site, kept, None, "DELETE").json["status"] == "canceled"


def test_only_the_owner_is_told_that_a_result_is_gone(site: Site) -> None:
    anna, bert = site.key("anna"), site.key("bert")
    purged = site.queue.ids.new(HandClock(site.clock() - 2 * 86400), "anna")
    assert_problem(read(site, purged, anna), 410, "result_gone")
    for stranger in (bert, None):
        assert_problem(read(site, purged, stranger), 404, "no_such_prediction")


def test_an_id_of_an_older_version_is_its_owners(site: Site) -> None:
    plain = submission(site.clock, owner="anna")
    site.queue.submit(plain, 1000).result(ANSWER_SECONDS)
    for method in ("GET", "DELETE"):
        assert_problem(read(site, plain.id, site.key("bert"), method), 404, "no_such_prediction")
    assert read(site, plain.id, site.key("anna"), "DELETE").json["status"] == "canceled"


def test_an_idempotency_key_is_its_owners(site: Site) -> None:
    again = {"Idempotency-Key": "same"}
    keys = [site.key("anna"), site.key("anna"), site.key("bert")]
    ids = [sent(site, {**again, **bearer(key)}, "free").json["id"] for key in keys]
    ids.append(sent(site, again, "free").json["id"])
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_a_refusal_leaves_the_connection_open_for_the_next_request(site: Site) -> None:
    connection, used = HTTPConnection("127.0.0.1", site.port, timeout=ANSWER_SECONDS), set()
    for path, key, status in (
        ("/v1/tiers", UNKNOWN, 401),
        ("/v1/predictions/nothing", site.key(), 404),
        ("/v1/tiers", site.key(), 200),
    ):
        connection.request("GET", path, headers=bearer(key))
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
        assert connection.sock is not None
        used.add(connection.sock.getsockname())
    assert len(used) == 1
    connection.close()


def test_what_is_no_route_is_told_to_everybody(site: Site) -> None:
    for port in (site, site.internal):
        assert_problem(port.ask("GET", "/nothing", None, bearer(UNKNOWN)), 404, "no_such_route")


def test_the_busiest_owners_are_in_the_metrics_and_nobody_else(site: Site) -> None:
    for number in range(SHOWN_OWNERS):
        key = bearer(site.key(f"owner{number}"))
        assert [sent(site, key, "free").status for _ in range(2)] == [202, 202]
    assert sent(site, bearer(site.key("small")), "free").status == 202
    again = {"Idempotency-Key": "same"}
    assert [sent(site, again, "free").status for _ in range(3)] == [202] * 3
    assert_problem(sent(site, bearer(site.key("refused")), "premium"), 403, "tier_not_allowed")
    text = site.internal.get("/metrics").body.decode()
    assert f'tierserve_predictions_accepted_total{{tier="free"}} {2.0 * SHOWN_OWNERS + 2}' in text
    assert 'tierserve_predictions_accepted_total{tier="premium"} 0.0' in text
    assert 'tierserve_rejected_requests_total{code="tier_not_allowed",tier="premium"} 1.0' in text
    named = dict(re.findall(r'tierserve_busiest_owners_predictions{owner="(\w+)"} (\S+)', text))
    assert named == {f"owner{number}": "2.0" for number in range(SHOWN_OWNERS)}
    site.pace_clock.advance(2 * PERIOD_SECONDS)
    assert sent(site, {}, "free").status == 202
    text = site.internal.get("/metrics").body.decode()
    assert re.findall(r"tierserve_busiest_owners_predictions{(.+)}", text) == ['owner="anonymous"']


def test_no_log_line_has_a_key(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = site.key()
    site.ask("GET", f"/v1/tiers?key={key}", None, {"X-Request-Id": key, "Referer": f"http://127.0.0.1/{key}"})
    site.post("free", PICTURE, {**ASYNC, **bearer(UNKNOWN)})
    # A request that fails for a fault of the server, too.
    site.call(lambda: setattr(site.services.queue.ids, "new", None))
    assert sent(site, bearer(key), "free").status == 500
    assert "Traceback" in caplog.text
    assert "tsk_" not in caplog.text
