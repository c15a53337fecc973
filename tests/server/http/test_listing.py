"""``GET /v1/predictions``, without real workers: owners see their own, page by page."""

from __future__ import annotations

import base64
import struct
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import pytest

from server.http.public.listing import MOST, USUAL
from server.queue import Status
from tests.running import Answer
from tests.server.given import submission
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, Site, assert_problem, completion


@lru_cache(8)
def bearer(site: Site, owner: str) -> dict[str, str]:
    """The header of an owner, with the same key each time."""
    return {"Authorization": f"Bearer {site.key(owner)}"}


def listed(site: Site, owner: str = "anna", **query: Any) -> Answer:
    return site.ask("GET", f"/v1/predictions?{urlencode(query, doseq=True)}", headers=bearer(site, owner))


def kept(site: Site, many: int, **changes: Any) -> list[str]:
    """Keep predictions of anna, a second apart; returns their ids."""
    made = []
    for _ in range(many):
        site.clock.advance(1)
        made.append(submission(site.clock, **changes))
        site.queue.submit(made[-1], 1000).result(ANSWER_SECONDS)
    return [one.id for one in made]


def shown(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [one["id"] for one in answer.json["predictions"]]


def test_a_list_shows_one_s_own_predictions_the_newest_first(site: Site) -> None:
    own = kept(site, 3)
    others = kept(site, 2, owner="bert")
    site.keep()
    answer = listed(site)
    assert shown(answer) == own[::-1]
    assert answer.json["next_cursor"] is None
    assert shown(listed(site, "bert")) == others[::-1]
    assert shown(listed(site, "carl")) == []
    read = site.ask("GET", f"/v1/predictions/{own[0]}", headers=bearer(site, "anna")).json
    assert answer.json["predictions"][-1] == {
        name: value for name, value in read.items() if name not in ("results", "queue")
    }


def test_pages_follow_each_other_until_the_end(site: Site) -> None:
    own = kept(site, 5)
    found: list[str] = []
    following: dict[str, str] = {}
    for _ in range(3):
        answer = listed(site, limit=2, **following)
        found += shown(answer)
        following = {"cursor": answer.json["next_cursor"]}
    assert following == {"cursor": None}
    assert found == own[::-1]


def test_a_page_has_twenty_unless_told_otherwise_and_a_hundred_at_most(site: Site) -> None:
    kept(site, MOST + 1)
    assert (len(shown(listed(site))), len(shown(listed(site, limit=MOST)))) == (USUAL, MOST) == (20, 100)


def test_a_cursor_tells_nothing_about_others(site: Site) -> None:
    (_, last) = kept(site, 2)
    raw = base64.urlsafe_b64decode(listed(site, limit=1).json["next_cursor"])
    assert raw == struct.pack(">d", site.clock.now) + last.encode()


def test_what_is_asked_for_may_be_narrowed(site: Site) -> None:
    free, premium = kept(site, 2), kept(site, 2, tier="premium")
    site.queue.cancel(free[0]).result(ANSWER_SECONDS)
    assert shown(listed(site, tier="premium")) == premium[::-1]
    assert shown(listed(site, tier=["free", "premium"], status="queued")) == [*premium[::-1], free[1]]
    assert shown(listed(site, status=["canceled", "leased"])) == [free[0]]
    times = [one["created_at"] for one in listed(site).json["predictions"]]
    assert shown(listed(site, since=times[1])) == premium[::-1]
    assert shown(listed(site, since=times[1].replace("Z", "+00:00"))) == premium[::-1]
    assert shown(listed(site, since=site.clock.now)) == [premium[1]]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        *(({"limit": limit}, "bad_limit") for limit in ("0", "101", "-1", "x", "1_0", "٣", "")),
        *(({"status": status}, "bad_status") for status in ("done", "", "QUEUED")),
        *(
            ({"since": since}, "bad_since")
            for since in ("yesterday", "2030-01-31", "2030-02-30T00:00:00Z", "2030-01-31T12:00:00", "nan", "1e9", "-1")
        ),
        *(({"cursor": cursor}, "bad_cursor") for cursor in ("x", "AAAA", "é", "p0mwtatmaubrzr5u0chkswslsqsnsnvx679")),
        ({"cursor": base64.urlsafe_b64encode(struct.pack(">d", float("nan")) + b"p" + b"0" * 34)}, "bad_cursor"),
    ],
)
def test_what_cannot_be_understood_is_refused(shared: Site, query: dict[str, Any], code: str) -> None:
    assert_problem(listed(shared, **query), 400, code)


def test_a_refusal_names_what_is_allowed(shared: Site) -> None:
    assert listed(shared, limit="101").json["limit_predictions"] == MOST
    assert listed(shared, status="done").json["statuses"] == list(Status)
    unknown = listed(shared, tier="gold")
    assert_problem(unknown, 404, "no_such_tier")
    assert unknown.json["tiers"] == ["free", "premium"]


def test_who_has_no_key_has_no_list(shared: Site) -> None:
    shared.submit()
    assert_problem(shared.get("/v1/predictions"), 401, "key_missing")


def test_what_waits_in_the_lobby_is_listed_once_it_is_kept(site: Site) -> None:
    channel = site.worker(site.job())
    channel.grant(1)
    answer = site.callers.submit(site.post, "free", PICTURE, bearer(site, "anna"))
    (one,) = channel.lease()
    assert shown(listed(site)) == []
    channel.say({"completions": [completion(one)]})
    assert answer.result(ANSWER_SECONDS).status == 200
    assert shown(listed(site)) == [one["id"]]
