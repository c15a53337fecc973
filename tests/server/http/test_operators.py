"""The operators' routes: who may ask, what they answer, and that no key is shown but once."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from server.access.keyring import Keyring
from server.access.keys import KEY, KeyRefused, Pepper, Terms, make, record
from server.queue import ConnectionLost, OutcomeUnknown
from tests.running import Answer
from tests.server.http.http_site import ADMIN_TOKEN, ANSWER_SECONDS, Site, assert_problem

ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
ANNA = {"owner": "anna", "tiers": ["free", "premium"]}
DAY = 86400.0


def ask(site: Site, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    data = None if body is None else json.dumps(body).encode()
    return site.internal.ask(method, f"/v1/keys{path}", data, ADMIN if headers is None else headers)


def create(site: Site, **changes: Any) -> dict[str, Any]:
    answer = ask(site, "POST", "", ANNA | changes)
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json
    return made


def refused(site: Site, text: str) -> str:
    with pytest.raises(KeyRefused) as error:
        site.services.keyring.recognize(text)
    return error.value.code


def test_a_key_is_made_and_shown_once(site: Site) -> None:
    limits = {"perSecond": 2.5, "queued": 10}
    made = create(site, expires="90d", limits=limits, weight=2)
    text = made.pop("key")
    assert KEY.fullmatch(text)
    assert site.services.keyring.recognize(text).owner == "anna"
    told = {**ANNA, "limits": limits, "weight": 2.0, "revoked_at": None, "status": "active", "kept_in": "database"}
    assert made == {**told, "id": made["id"], "created_at": made["created_at"], "expires_at": made["expires_at"]}
    assert ask(site, "GET", f"/{made['id']}").json == made
    assert ask(site, "GET", "").json == {"keys": [made]}
    site.clock.advance(90 * DAY)
    assert refused(site, text) == "key_expired"
    assert ask(site, "GET", f"/{made['id']}").json["status"] == "expired"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", ""), ("GET", "/x"), ("DELETE", "/x"), ("POST", "/x/rotate")]
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Bearer {ADMIN_TOKEN}x"},
        {"Authorization": f"Basic {ADMIN_TOKEN}"},
        {"Authorization": ADMIN_TOKEN},
        {"Authorization": "Bearer "},
        {"X-API-Key": ADMIN_TOKEN},
    ],
)
def test_only_operators_may_ask(shared: Site, method: str, path: str, headers: dict[str, str]) -> None:
    answer = ask(shared, method, path, ANNA if method == "POST" else None, headers)
    assert_problem(answer, 401, "bad_admin_token")
    assert answer.headers["Www-Authenticate"] == "Bearer"
    assert ask(shared, "GET", "").json == {"keys": []}


def test_clients_do_not_find_the_routes(shared: Site) -> None:
    assert_problem(shared.ask("GET", "/v1/keys"), 404, "no_such_route")
    assert shared.ask("GET", "/v1/keys", None, ADMIN).status in (401, 404)


@pytest.mark.parametrize(
    "changes",
    [
        {"owner": "anonymous"},
        {"owner": ""},
        {"owner": "a b"},
        {"owner": "a\x00"},
        {"owner": "anna\n"},
        {"owner": "a" * 65},
        {"owner": 5},
        {"tiers": []},
        {"tiers": "free"},
        {"weight": 0},
        {"weight": True},
        {"limits": {"perSecond": -1}},
        {"limits": {"per_second": 1}},
        {"limits": {"queued": 1.5}},
        {"expires": "soon"},
        {"expires": "2020-01-01T00:00:00Z"},
        {"expires": 90},
        {"colour": "red"},
    ],
)
def test_wrong_terms_are_refused(shared: Site, changes: dict[str, Any]) -> None:
    assert_problem(ask(shared, "POST", "", ANNA | changes), 422, "bad_key_terms")
    assert ask(shared, "GET", "").json == {"keys": []}


def test_other_wrong_bodies_are_refused(shared: Site) -> None:
    answer = ask(shared, "POST", "", ANNA | {"tiers": ["free", "gold"]})
    assert_problem(answer, 422, "no_such_tier")
    assert answer.json["tiers"] == ["free", "premium"]
    assert_problem(shared.internal.ask("POST", "/v1/keys", b"{", ADMIN), 400, "bad_json")
    assert_problem(shared.internal.ask("POST", "/v1/keys", b"", ADMIN), 400, "bad_json")
    endless = b'{"owner": "anna", "tiers": ["free"], "weight": 1e999}'
    assert_problem(shared.internal.ask("POST", "/v1/keys", endless, ADMIN), 422, "bad_key_terms")
    assert_problem(shared.internal.ask("POST", "/v1/keys", b" " * 20_000, ADMIN), 413, "too_many_bytes")


def test_a_revoked_key_is_refused_at_once_and_for_ever(site: Site) -> None:
    made = create(site)
    revoked = ask(site, "DELETE", f"/{made['id']}").json
    assert (revoked["status"], revoked["id"]) == ("revoked", made["id"])
    assert refused(site, made["key"]) == "key_revoked"
    site.clock.advance(5)
    assert ask(site, "DELETE", f"/{made['id']}").json == revoked
    assert_problem(ask(site, "POST", f"/{made['id']}/rotate", {}), 409, "key_over")


def test_a_key_is_rotated_without_a_gap(site: Site) -> None:
    old = create(site, expires="90d", limits={"perDay": 5}, weight=3)
    site.clock.advance(80 * DAY)
    new = ask(site, "POST", f"/{old['id']}/rotate").json  # without a body
    same = ("owner", "tiers", "limits", "weight")
    assert [new[name] for name in same] == [old[name] for name in same]
    assert new["replaces"]["id"] == old["id"] != new["id"]
    for text in (old["key"], new["key"]):
        assert site.services.keyring.recognize(text).name == "owner:anna"
    site.clock.advance(DAY)
    assert refused(site, old["key"]) == "key_expired"
    site.clock.advance(89 * DAY - 1)
    assert site.services.keyring.recognize(new["key"]).key == new["id"]
    site.clock.advance(1)
    assert refused(site, new["key"]) == "key_expired"


def test_a_rotation_has_its_own_grace_and_end(site: Site) -> None:
    old = create(site)
    new = ask(site, "POST", f"/{old['id']}/rotate", {"grace": 0, "expires": "1h"}).json
    assert refused(site, old["key"]) == "key_expired"
    site.services.keyring.recognize(new["key"])
    site.clock.advance(3600)
    assert refused(site, new["key"]) == "key_expired"
    for wrong in ({"grace": -1}, {"grace": "1d"}, {"expires": "never"}, {"owner": "bert"}):
        assert_problem(ask(site, "POST", f"/{new['id']}/rotate", wrong), 422, "bad_key_terms")


def test_what_is_no_id_is_not_repeated(site: Site) -> None:
    made = create(site)
    for text in (made["key"], "0" * 12, "x", "a%00b", "%ff"):
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
            answer = ask(site, method, f"/{text}{path}", {} if method == "POST" else None)
            if text == made["key"]:
                assert_problem(answer, 400, "key_in_url")
            else:
                assert_problem(answer, 404, "no_such_key")
            assert made["key"].encode() not in answer.body
    assert ask(site, "GET", f"/{made['id']}").json["status"] == "active"


def test_a_key_of_a_file_is_listed_and_changed_only_there(site: Site) -> None:
    file = site.keys / "keys.yaml"
    text, key = make(site.services.keyring.pepper, Terms("bert", ["free"]), site.clock())
    file.write_text(json.dumps({"keys": [record(key)]}))
    create(site)
    listed = ask(site, "GET", "").json["keys"]
    assert [(one["owner"], one["kept_in"]) for one in listed] == [("bert", "file"), ("anna", "database")]
    assert_problem(ask(site, "DELETE", f"/{key.id}"), 409, "key_in_file")
    assert_problem(ask(site, "POST", f"/{key.id}/rotate"), 409, "key_in_file")
    assert site.services.keyring.recognize(text).owner == "bert"


def test_a_wrong_file_of_keys_is_told_without_its_values(site: Site) -> None:
    file = site.keys / "keys.yaml"
    assert site.get("/readyz").json["keys"] == site.get("/config").json["keys"] == {"current": True, "reason": ""}
    file.write_text('keys:\n- {id: aaaaaaaaaaaa, owner: anonymous, tiers: [free], digest: "5ecret"}\n')
    site.services.keyring.refresh()
    told = site.get("/readyz").json["keys"]
    assert told == site.get("/config").json["keys"]
    assert told["current"] is False
    assert "keys.yaml:2: /keys/0/digest (pattern)" in told["reason"]
    assert "5ecret" not in told["reason"]


def test_keys_are_not_changed_while_the_database_is_away(site: Site) -> None:
    made = create(site)
    site.database.failure = ConnectionLost("gone")
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", f"/{made['id']}"), ("POST", f"/{made['id']}/rotate")):
        assert ask(site, method, path, ANNA if path == "" and method == "POST" else None).status == 503
    assert site.services.keyring.recognize(made["key"]).owner == "anna"


def test_the_new_key_is_answered_also_when_the_database_goes_away_right_after(site: Site) -> None:
    create(site)
    real = site.services.keyring.refresh

    def away() -> None:
        raise ConnectionLost("gone")

    site.services.keyring.refresh = away  # type: ignore[method-assign]
    made = create(site, owner="bert")
    site.services.keyring.refresh = real  # type: ignore[method-assign]
    real()
    assert site.services.keyring.recognize(made["key"]).owner == "bert"


def test_a_server_with_another_pepper_makes_no_keys(site: Site) -> None:
    other = Keyring(site.queue, Pepper("another pepper"), site.clock)
    _, key = make(other.pepper, Terms("bert", ["free"]), site.clock())
    site.queue.add_key(key, other.pepper.check).result(ANSWER_SECONDS)
    assert_problem(ask(site, "POST", "", ANNA), 503, "other_pepper")
    assert_problem(ask(site, "GET", ""), 503, "other_pepper")
    assert site.get("/readyz").json["keys"]["current"] is False


def test_every_change_has_a_line_and_no_line_has_a_key(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        made = create(site, expires="2030-01-01T00:00:00Z")
        new = ask(site, "POST", f"/{made['id']}/rotate", {"grace": 60}).json
        ask(site, "DELETE", f"/{new['id']}")
        ask(site, "DELETE", f"/{new['id']}")
        site.database.write_failure = OutcomeUnknown("gone")
        assert_problem(ask(site, "POST", "", ANNA), 503, "outcome_unknown")
    lines = [one.getMessage() for one in caplog.records if one.name == "server.audit"]
    at = f"owner=anna tiers=free,premium expires={made['expires_at']} by=127.0.0.1"
    assert lines[0] == f"key created: id={made['id']} {at}"
    assert lines[1].startswith(f"key created in place of {made['id']}: id={new['id']} owner=anna")
    assert lines[2].startswith(f"key rotated: id={made['id']} owner=anna")
    assert new["replaces"]["expires_at"] in lines[2]
    assert lines[3].startswith(f"key revoked: id={new['id']} owner=anna")
    assert lines[4].startswith("key created, unless its commit failed: id=")
    assert len(lines) == 5
    for text in (made["key"], new["key"], made["key"].rpartition("_")[2]):
        assert text not in caplog.text
        for answer in (site.internal.get("/metrics"), site.get("/config"), ask(site, "GET", "")):
            assert text.encode() not in answer.body


def test_a_fault_of_the_server_shows_no_key(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    made = create(site)

    def broken(*_: object) -> None:
        raise ValueError("broken")

    site.services.queue.rotate_key = broken  # type: ignore[method-assign, assignment]
    answer = ask(site, "POST", f"/{made['id']}/rotate")
    assert_problem(answer, 500, "internal_error")
    assert "ValueError: broken" in caplog.text
    assert made["key"] not in caplog.text
    assert ADMIN_TOKEN not in caplog.text
