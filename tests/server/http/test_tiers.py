"""What is told of the tiers: their live Jobs, what waits, and their breakers."""

from __future__ import annotations

from typing import Any

from server.access.keys import time_text
from server.engines.base import EngineError, Pod, Stage
from server.http.crews import BUSY_SECONDS, ENDING
from server.models import OUTDATED
from server.queue import Breaker, Served, Serving, TierView
from tests.openapi import described
from tests.server.http.http_site import ANSWER_SECONDS, Site
from tests.waiting import eventually

SERVED = Served("flowers@11111111", "1" * 64, "onnx", "int8", 0.0)


def test_the_tiers_tell_their_live_jobs(site: Site) -> None:
    site.serve("free", Serving(main=SERVED))
    site.job("new", model=SERVED.key)
    working, old = site.job("working"), site.job("old", model="x@1 onnx/fp32")
    opened = time_text(site.clock.now)
    site.worker(old).hold()
    site.clock.now += 1
    for _ in range(3):
        site.submit()
    site.lease(working, most=2)
    site.clock.now += 5
    (free, premium) = site.get("/v1/tiers").json["tiers"]
    told = {job["name"]: job for job in free["jobs"]}
    assert (list(told), premium["jobs"]) == (["new", "working", "old"], [])
    assert told["new"] == {
        "name": "new",
        "state": "starting",
        "stage": None,
        "node": None,
        "model": SERVED.reference,
        "opened_at": opened,
        "since": opened,
        "predictions": 0,
        "reason": "",
    }
    assert (told["working"]["state"], told["working"]["predictions"], told["working"]["model"]) == ("busy", 2, None)
    assert told["working"]["since"] == time_text(site.clock.now - 5)
    assert (told["old"]["state"], told["old"]["reason"]) == ("leaving", OUTDATED)
    assert free["oldest_at"] == time_text(site.clock.now - 5)
    assert premium["oldest_at"] is None


def test_jobs_are_told_with_what_the_engine_said_of_their_pods(site: Site) -> None:
    for name in ("podless", "stuck", "loading"):
        site.job(name)
    for name in ("working", "ending"):
        site.worker(site.job(name)).hold()
    stages = {"stuck": Stage.PULLING, "loading": Stage.LOADING, "working": Stage.LOADING, "ending": Stage.LOADING}
    site.engine.shown = [
        Pod(
            node=f"node-of-{name}",
            ip="10.0.0.1",
            namespace="tierserve-free",
            name=f"{name}-x",
            status="Terminating" if name == "ending" else "Running",
            job=name,
            stage=stage,
            reason="ErrImagePull" if name == "stuck" else "",
        )
        for name, stage in stages.items()
    ]

    def told() -> dict[str, tuple[Any, ...]]:
        jobs = site.get("/v1/tiers").json["tiers"][0]["jobs"]
        return {job["name"]: (job["state"], job["stage"], job["node"], job["reason"]) for job in jobs}

    found = eventually(told, ANSWER_SECONDS, "the engine has told", lambda jobs: jobs["stuck"][1] is not None)
    assert found == {
        "podless": ("starting", "pending", None, ""),
        "stuck": ("starting", "pulling", "node-of-stuck", "ErrImagePull"),
        "loading": ("starting", "loading", "node-of-loading", ""),
        "working": ("idle", None, "node-of-working", ""),
        "ending": ("leaving", None, "node-of-ending", ENDING),
    }


def test_what_is_told_is_as_the_interface_describes_it(site: Site) -> None:
    site.engine.shown = [
        Pod("n", "10.0.0.1", "tierserve-free", "new-x", "Running", "new", Stage.PULLING, "ErrImagePull"),
        Pod("n", "10.0.0.2", "tierserve", "tierserve-x", "Running"),
    ]
    site.job("new", model=SERVED.key)
    token = site.job()
    for _ in range(2):
        site.submit()
    (one,) = site.lease(token)
    assert site.complete(one, token) == ["accepted"]
    site.services.activity.flush()
    view = TierView(running=2, starting=1, breaker=Breaker(3, site.clock.now + 10))
    site.queue.report("free", view).result(ANSWER_SECONDS)
    for path in ("/config", "/v1/tiers", "/v1/tiers/free", "/v1/tiers/free/activity"):
        described().check(site.get(path), "GET", path)


def test_the_tiers_are_told_while_the_engine_says_nothing(site: Site) -> None:
    site.job()
    site.engine.released.clear()
    for _ in range(3):
        (job,) = site.get("/v1/tiers").json["tiers"][0]["jobs"]
        assert (job["state"], job["stage"], job["node"]) == ("starting", None, None)
    assert site.engine.asked == 1
    site.engine.shown = EngineError("the API server does not answer")
    site.engine.released.set()
    eventually(
        lambda: site.get("/v1/tiers").status and site.engine.asked, ANSWER_SECONDS, "it is asked again", (3).__lt__
    )
    (job,) = site.get("/v1/tiers").json["tiers"][0]["jobs"]
    assert job["stage"] is None


def test_a_worker_is_idle_a_moment_after_its_last_work(site: Site) -> None:
    token = site.job()
    site.submit()
    (one,) = site.lease(token)
    assert site.complete(one, token) == ["accepted"]

    def state() -> str:
        (job,) = site.get("/v1/tiers").json["tiers"][0]["jobs"]
        return str(job["state"])

    assert state() == "busy"
    site.clock.now += BUSY_SECONDS
    assert state() == "idle"


def test_the_tiers_tell_when_a_breaker_lets_the_next_worker_start(site: Site) -> None:
    view = TierView(running=2, starting=1, breaker=Breaker(3, site.clock.now + 10))
    site.queue.report("free", view).result(ANSWER_SECONDS)
    free, premium = site.get("/v1/tiers").json["tiers"]
    assert free["breaker"] == {"strikes": 3, "retry_at": time_text(site.clock.now + 10)}
    assert (free["starting"], premium["breaker"]) == (1, None)
