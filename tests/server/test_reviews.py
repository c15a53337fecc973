"""Whose token a worker shows, by what the API server says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.access.workers import AccessDenied, AccessUnknown, Worker
from server.engines.base import EngineError
from server.engines.cluster import Cluster, Object
from server.engines.reviews import AGAIN_SECONDS, FRESH_SECONDS, STALE_SECONDS, WorkerReviews

POD = "authentication.kubernetes.io/pod-name"
JOB = "tierserve-free-0a1b2c3d4e"
OURS = Worker("free", JOB)


class Knowing(Cluster):
    """An API server that knows some tokens, or that does not answer while it is ``gone``."""

    def __init__(self, **known: Object) -> None:
        self.known, self.gone, self.asked = dict(known), False, 0
        self.meanwhile: Callable[[], object] = lambda: None

    def review(self, token: str, audience: str) -> Object:
        self.asked += 1
        self.meanwhile()
        if self.gone:
            raise EngineError("the API server does not answer")
        return self.known.get(token, {"error": "not one of mine"})


def status(account: str = "tierserve-free:tierserve-worker", pod: str | None = f"{JOB}-x7k2p", **more: Any) -> Object:
    user = {"username": f"system:serviceaccount:{account}", "extra": {POD: [pod]} if pod else {}}
    return {"authenticated": True, "audiences": ["tierserve"], "user": user} | more


class Asked:
    """Credentials that ask such an API server, with a clock that a test moves."""

    def __init__(self, **known: Object) -> None:
        self.now = 100.0
        self.cluster = Knowing(**known)
        self.credentials = WorkerReviews(self.cluster, lambda: {"tierserve-free": "free"}, lambda: self.now)


def test_a_workers_token_names_its_tier_and_job_and_is_asked_for_once_a_minute() -> None:
    world = Asked(good=status())
    assert world.credentials.recall("good") is None
    assert world.credentials.check("good") == OURS
    world.now += FRESH_SECONDS - 1
    assert world.credentials.recall("good") == OURS
    world.now += 1
    assert world.credentials.recall("good") is None
    assert world.cluster.asked == 1


@pytest.mark.parametrize(
    "answer",
    [
        status(authenticated=False),
        status(audiences=["https://kubernetes.default.svc"]),
        status("tierserve-free:default"),
        status("tierserve:tierserve-worker"),
        status("elsewhere:tierserve-worker"),
        status(pod=None),
        status(user={"username": "tierserve-free:tierserve-worker", "extra": {POD: [f"{JOB}-x7k2p"]}}),
        {"error": "expired"},
    ],
)
def test_every_other_token_is_denied(answer: Object) -> None:
    with pytest.raises(AccessDenied):
        Asked(other=answer).credentials.check("other")


def test_no_token_is_denied_without_asking() -> None:
    world = Asked()
    with pytest.raises(AccessDenied):
        world.credentials.check("")
    assert world.cluster.asked == 0


def test_a_known_worker_outlasts_an_outage_and_an_unknown_one_is_neither_taken_nor_denied() -> None:
    world = Asked(good=status(), late=status())
    world.credentials.check("good")
    world.cluster.gone = True
    world.now += STALE_SECONDS - 1
    assert world.credentials.check("good") == OURS
    with pytest.raises(AccessUnknown):
        world.credentials.check("late")
    world.now += 1
    with pytest.raises(AccessUnknown):
        world.credentials.check("good")


def test_while_the_api_server_is_silent_few_requests_wait_for_it() -> None:
    world = Asked(good=status(), other=status())
    for token in ("good", "other"):
        world.credentials.check(token)
    world.cluster.gone = True
    world.now += FRESH_SECONDS
    for _ in range(9):
        assert world.credentials.recall("good") or world.credentials.check("good") == OURS
        assert world.credentials.recall("other") or world.credentials.check("other") == OURS
    assert world.cluster.asked == 3
    world.now += AGAIN_SECONDS
    assert world.credentials.check("good") == OURS
    assert world.cluster.asked == 4
    world.cluster.gone = False
    world.now += AGAIN_SECONDS
    assert world.credentials.recall("good") is None
    assert world.credentials.check("good") == OURS
    assert world.credentials.recall("other") is None, "it answers again: everybody is asked for"


def test_one_request_asks_a_silent_api_server_and_the_others_do_not_wait_for_it() -> None:
    world = Asked(good=status())
    world.credentials.check("good")
    world.cluster.gone = True
    world.now += FRESH_SECONDS
    world.credentials.check("good")
    world.now += AGAIN_SECONDS
    seen: list[Worker | None] = []
    world.cluster.meanwhile = lambda: seen.append(world.credentials.recall("good"))
    assert world.credentials.check("good") == OURS
    assert seen == [OURS]


def test_a_token_that_is_no_longer_good_is_forgotten() -> None:
    world = Asked(good=status())
    world.credentials.check("good")
    world.cluster.known.clear()
    with pytest.raises(AccessDenied):
        world.credentials.check("good")
    assert world.credentials.recall("good") is None
