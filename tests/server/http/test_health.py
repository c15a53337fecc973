"""What the server says about itself: health, readiness, tiers, pods, metrics."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from server.engines.base import EngineError, Pod
from server.http.services import TOKEN_CHECKS
from server.queue import NEVER_SEEN, ConnectionLost, Status, TierView
from server.settings.live import Live
from server.settings.quantity import Usage
from server.settings.sources import Files
from tests.running import Answer
from tests.server.http.http_site import ANSWER_SECONDS, Reviews, Site, assert_problem, running
from tests.service.test_metrics import Series
from tests.waiting import eventually

VIEW = TierView(
    running=2,
    starting=1,
    room=3,
    quota={"pods": Usage(5, 2)},
    healthy=True,
    reason="quota pods: 2 of 5 used",
    caution="Pod Security enforces nothing",
)


def report(site: Site, tier: str, view: TierView = VIEW) -> None:
    site.queue.report(tier, view).result(ANSWER_SECONDS)


def series(site: Site) -> Series:
    answer = site.internal.get("/metrics")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return Series(answer.body)


def test_every_answer_is_marked(shared: Site) -> None:
    plain, mine = shared.get("/healthz"), shared.ask("GET", "/nowhere", None, {"X-Request-Id": "mine"})
    assert plain.json == {"status": "ok"}
    assert len(plain.headers["X-Request-Id"]) == 16
    assert mine.json["request_id"] == mine.headers["X-Request-Id"] == "mine"
    for bad in ("x" * 65, "\xfc", ""):
        assert len(shared.ask("GET", "/healthz", None, {"X-Request-Id": bad}).headers["X-Request-Id"]) == 16
    for answer in (plain, mine):
        assert (answer.headers["Cache-Control"], answer.headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
        assert "Server" not in answer.headers


def test_readiness_is_that_of_the_queue_and_names_every_tier(site: Site) -> None:
    report(site, "free")
    ready = site.get("/readyz")
    assert (ready.status, ready.json["status"], ready.json["settings"]) == (
        200,
        "ready",
        {"current": True, "reason": ""},
    )
    unseen = {"healthy": False, "reason": "no server has looked at this tier for 10 s"}
    assert ready.json["tiers"] == {"free": {"healthy": True, "reason": VIEW.reason}, "premium": unseen}
    site.clock.now += 11
    assert site.get("/readyz").json["tiers"] == {"free": unseen, "premium": unseen}
    site.database.failure = ConnectionLost("the connection broke")
    away = site.get("/readyz")
    assert (away.status, away.json) == (503, {"status": "queue unavailable", "detail": "the connection broke"})
    assert away.headers["Content-Type"] == "application/json"
    assert site.get("/healthz").status == 200
    site.database.failure = None
    site.call(site.services.wakeups.drain)
    assert (site.get("/readyz").status, site.get("/readyz").json) == (503, {"status": "stopping"})
    assert site.get("/healthz").status == 200


def test_the_tiers_tell_what_waits_and_what_runs(site: Site) -> None:
    report(site, "free")
    site.submit()
    site.submit()
    site.lease(site.job())
    free, premium = site.get("/v1/tiers").json["tiers"]
    shown = {
        name: free[name] for name in ("name", "queued", "predicting", "workers", "room", "reason", "caution", "quota")
    }
    assert shown == {
        "name": "free",
        "queued": 1,
        "predicting": 1,
        "workers": 2,
        "room": 3,
        "reason": VIEW.reason,
        "caution": VIEW.caution,
        "quota": {"pods": {"hard": 5, "used": 2}},
    }
    limits = site.services.settings.tiers["free"].limits
    assert free["limits"] == {
        "queued": limits.queue,
        "queue_bytes": limits.queue_bytes,
        "images": limits.images,
        "image_bytes": limits.image_bytes,
        "image_pixels": limits.image_pixels,
    }
    assert free["url"] == "/img-classification/free"
    assert (premium["name"], premium["queued"], premium["reason"]) == ("premium", 0, NEVER_SEEN.reason)


def test_the_configuration_lists_pods_while_the_engine_answers(site: Site) -> None:
    pod = Pod("node", "10.0.0.1", "tierserve-free", "tierserve-free-x", "Running")
    site.engine.shown = [pod]
    found = site.get("/config").json
    assert found["pods"] == [asdict(pod)]
    assert (found["tiers"], found["settings"]["current"]) == (site.get("/v1/tiers").json["tiers"], True)
    site.engine.shown = EngineError("the API server does not answer")
    answer = site.get("/config")
    assert_problem(answer, 503, "engine_unavailable")
    assert answer.headers["Retry-After"] == "5"


def test_a_wrong_change_of_the_settings_shows(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("{}\n")
    live = Live(Files((values,)), patience=30)
    with running(tmp_path, live) as site:
        assert series(site).of("settings_in_force") == 1
        values.write_text("tiers: 1\n")
        assert not live.refresh(lambda manifest: None)
        assert series(site).of("settings_in_force") == 0
        for path in ("/readyz", "/config"):
            told = site.get(path).json["settings"]
            assert told["current"] is False
            assert "values.yaml" in told["reason"]


def test_the_metrics_show_the_tiers(site: Site) -> None:
    report(site, "free")
    site.submit()
    site.clock.now += 2
    found = series(site)
    figures = {
        "predictions_queued": 1,
        "predictions_leased": 0,
        "predictions_oldest_wait_seconds": 2,
        "workers_running": 2,
        "workers_starting": 1,
        "workers_room": 3,
        "tier_healthy": 1,
        "breaker_strikes": 0,
        "dispatcher_report_age_seconds": 2,
    }
    assert {name: found.of(name, tier="free") for name in figures} == figures
    assert found.of("quota_hard", tier="free", resource="pods") == 5
    assert found.of("dispatcher_report_age_seconds", tier="premium") is None


def test_ends_and_refusals_are_counted_by_what_the_server_knows(site: Site) -> None:
    token = site.job()
    site.submit()
    (one,) = site.lease(token)
    assert site.complete(one, token) == ["accepted"]
    site.submit("abracadabra")
    site.submit(body=b"no picture")
    site.ask("HOCUS", "/pocus")
    site.idle()
    body = site.internal.get("/metrics").body
    found = Series(body)
    assert found.of("predictions_ended_total", tier="free", status=Status.SUCCEEDED) == 1
    assert found.of("predictions_ended_total", tier="premium", status=Status.SUCCEEDED) == 0
    assert found.of("rejected_requests_total", tier="", code="no_such_tier") == 1
    assert found.of("rejected_requests_total", tier="free", code="unsupported_media_type") == 1
    assert found.of("http_requests_total", route="/work/channel", method="GET", status="101") == 1
    assert found.of("http_requests_total", route="other", method="other", status="405") == 1
    assert not any(text in body.lower() for text in (b"abracadabra", b"hocus", b"pocus"))


def test_a_queue_that_cannot_be_asked_leaves_the_other_metrics(site: Site) -> None:
    assert series(site).of("queue_readable") == 1
    site.database.failure = ConnectionLost("the connection broke")
    found = series(site)
    assert found.of("queue_readable") == 0
    assert found.of("predictions_queued", tier="free") is None
    assert (found.of("http_requests_total", route="/metrics", method="GET", status="200") or 0) >= 1


def test_requests_that_were_dropped_pile_up_no_work_and_keep_no_worker_waiting(tmp_path: Path) -> None:
    with running(tmp_path, tokens=Reviews(b"secret")) as site:
        token = site.job()
        site.engine.released.clear()
        for _ in range(200):
            with site.connected() as connection:
                connection.sendall(b"GET /config HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: site.engine.asked, ANSWER_SECONDS, "the engine is asked")
        assert site.worker(token).hold() == []
        assert site.get("/v1/tiers").status == site.get("/readyz").status == 200
        site.engine.released.set()
        assert site.get("/config").status == 200
        assert site.engine.asked < 50, "each answer may ask once for those that come later"


def test_one_address_can_have_only_so_many_tokens_checked_whatever_address_it_claims(tmp_path: Path) -> None:
    with running(tmp_path, tokens=Reviews(b"secret")) as site:

        def ask(number: int) -> Answer:
            headers = {"Authorization": "Bearer unknown", "X-Forwarded-For": f"10.0.0.{number}"}
            return site.internal.ask("GET", "/work/channel", None, headers)

        answers = {answer.status: answer for answer in site.callers.map(ask, range(10 * TOKEN_CHECKS))}
        assert_problem(answers[401], 401, "bad_worker_token")
        assert_problem(answers[503], 503, "worker_token_unchecked")
        assert answers[503].headers["Retry-After"] == "1"
