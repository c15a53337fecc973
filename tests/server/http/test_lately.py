"""``GET /v1/tiers/{tier}/activity``, rates and waits: what happened lately in a tier.

It could give ids away, be open to those who may not use the tier, or miss what happened beside the table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.access.keys import time_text
from server.queue import KEPT_MINUTES
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, Site, assert_problem, running, settings_with
from tests.server.http.test_callers import OUTSIDE


def activity(site: Site, tier: str = "free") -> dict[str, Any]:
    site.services.activity.flush()
    answer = site.get(f"/v1/tiers/{tier}/activity")
    assert answer.status == 200
    found: dict[str, Any] = answer.json
    return found


def test_nothing_has_happened_in_a_new_tier(site: Site) -> None:
    found = activity(site)
    assert (len(found["minutes"]), found["predictions"], found["jobs"]) == (KEPT_MINUTES, [], [])
    empty = {"accepted": 0, "succeeded": 0, "failed": 0, "wait_p50": None, "wait_p95": None}
    assert found["minutes"][-1] == {"at": time_text(site.clock.now // 60 * 60), **empty}
    assert found["minutes"][0] == {"at": time_text(site.clock.now // 60 * 60 - 59 * 60), **empty}


def test_a_prediction_is_in_the_minutes_of_its_acceptance_and_of_its_end(site: Site) -> None:
    token = site.job()
    site.submit()
    site.submit()
    site.clock.now += 60
    one, _ = site.lease(token, most=2)
    assert site.complete(one, token) == ["accepted"]
    *_, before, last = activity(site)["minutes"]
    assert (before["accepted"], before["succeeded"], before["wait_p50"]) == (2, 0, None)
    assert (last["accepted"], last["succeeded"], last["failed"]) == (0, 1, 0)
    assert last["wait_p50"] == last["wait_p95"] == pytest.approx(60, rel=0.09)
    told = site.get("/v1/tiers").json["tiers"][0]
    assert told["wait_seconds"] == {"sample": 1, "p50": last["wait_p50"], "p95": last["wait_p95"]}


def test_the_tiers_tell_how_long_predictions_waited(site: Site) -> None:
    token = site.job()
    for seconds in range(1, 21):
        site.submit()
        site.clock.advance(seconds)
        (one,) = site.lease(token)
        assert site.complete(one, token) == ["accepted"]
    site.services.activity.flush()
    told = site.get("/v1/tiers").json["tiers"][0]["wait_seconds"]
    assert told["sample"] == 20
    assert told["p50"] == pytest.approx(10, rel=0.09)
    assert told["p95"] == pytest.approx(19, rel=0.09)


def test_what_never_was_in_the_table_is_counted_too(site: Site) -> None:
    token = site.job()
    site.worker(token)
    answer = site.callers.submit(site.post, "free", PICTURE)
    (one,) = site.lease(token)
    assert site.complete(one, token) == ["accepted"]
    assert answer.result(ANSWER_SECONDS).status == 200
    last = activity(site)["minutes"][-1]
    assert (last["accepted"], last["succeeded"], last["failed"]) == (1, 1, 0)
    assert last["wait_p50"] is not None


def test_a_canceled_prediction_has_not_failed(site: Site) -> None:
    key = site.submit().json["id"]
    site.ask("DELETE", f"/v1/predictions/{key}")
    last = activity(site)["minutes"][-1]
    assert (last["accepted"], last["succeeded"], last["failed"]) == (1, 0, 0)


def test_a_request_that_is_repeated_is_accepted_once(site: Site) -> None:
    for _ in range(2):
        site.submit(headers={"Idempotency-Key": "mine"})
    assert activity(site)["minutes"][-1]["accepted"] == 1


def test_the_latest_predictions_are_told_without_what_opens_them(site: Site) -> None:
    token = site.job()
    done, working, waiting = (site.submit().json["id"] for _ in range(3))
    one, _ = site.lease(token, most=2)
    assert site.complete(one, token) == ["accepted"]
    answer = site.get("/v1/tiers/free/activity")
    told = answer.json["predictions"]
    assert sorted(one["status"] for one in told) == ["leased", "queued", "succeeded"]
    assert told[0].keys() == {
        "status",
        "images",
        "model",
        "created_at",
        "started_at",
        "completed_at",
        "attempts",
        "error",
        "metrics",
    }
    assert not any(key.encode() in answer.body for key in (done, working, waiting))
    for _ in range(25):
        site.clock.now += 1
        site.submit()
    told = activity(site)["predictions"]
    assert len(told) == 20
    assert told[0]["created_at"] == time_text(site.clock.now)
    assert [one["created_at"] for one in told] == sorted((one["created_at"] for one in told), reverse=True)


def test_the_latest_jobs_are_told_with_their_ends(site: Site) -> None:
    opened = site.clock.now
    for number, name in enumerate(("crashed", "drained", "alive")):
        site.clock.now = opened + number
        site.job(name, model="flowers@11111111 onnx/int8")
    site.queue.end_job("crashed", "exit code 1").result()
    site.queue.end_job("drained", "", blame=False).result()
    site.job("other", "premium")
    told = activity(site)["jobs"]
    assert [(one["name"], one["state"], one["reason"]) for one in told] == [
        ("alive", "running", ""),
        ("drained", "succeeded", ""),
        ("crashed", "failed", "exit code 1"),
    ]
    assert told[2] == {
        "name": "crashed",
        "state": "failed",
        "model": "flowers@11111111",
        "opened_at": time_text(opened),
        "ended_at": time_text(site.clock.now),
        "reason": "exit code 1",
        "logs": None,
    }
    assert told[0]["ended_at"] is None


def test_activity_is_for_those_who_may_use_the_tier(tmp_path: Path) -> None:
    with running(tmp_path, settings_with(*OUTSIDE)) as site:
        elsewhere, path = {"X-Forwarded-For": "203.0.113.9"}, "/v1/tiers/premium/activity"
        assert_problem(site.ask("GET", path, headers=elsewhere), 401, "key_missing")
        opened = {"Authorization": f"Bearer {site.key(tiers=['premium'])}", **elsewhere}
        assert site.ask("GET", path, headers=opened).status == 200
        assert_problem(site.ask("GET", "/v1/tiers/free/activity", headers=opened), 403, "tier_not_allowed")


def test_activity_of_a_tier_that_is_not_there(shared: Site) -> None:
    assert_problem(shared.get("/v1/tiers/gold/activity"), 404, "no_such_tier")
