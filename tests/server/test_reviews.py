"""Whose token a worker shows, by what the API server says."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from server.access.workers import AccessDenied, AccessUnknown, Worker
from server.engines.base import EngineError
from server.engines.cluster import ApiError, Cluster, Object
from server.engines.reviews import (
    AGAIN_SECONDS,
    BUSY_SECONDS,
    DENIED_SECONDS,
    FRESH_SECONDS,
    MOST_KEPT,
    REFUSED_SECONDS,
    STALE_SECONDS,
    WorkerReviews,
)

POD = "authentication.kubernetes.io/pod-name"
JOB = "tierserve-free-0a1b2c3d4e"
OURS = Worker("free", JOB)


def shown(claims: object) -> str:
    """A token with these claims, as a kubelet writes it."""
    return f"head.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.signature"


def token(name: str, **changes: object) -> str:
    plain = {"aud": ["tierserve"], "sub": "system:serviceaccount:tierserve-free:tierserve-worker", "jti": name}
    return shown(plain | changes)


GOOD, OTHER = token("good"), token("other")


class Knowing(Cluster):
    """An API server that knows some tokens, or that fails with ``failure``, or gives no answer while it is ``gone``."""

    def __init__(self, *known: tuple[str, Object]) -> None:
        self.known, self.gone, self.asked = dict(known), False, 0
        self.failure: ApiError | None = None
        self.listing = False
        self.meanwhile: Callable[[], object] = lambda: None

    def lists(self, seconds: float) -> bool:
        return self.listing

    def review(self, token: str, audience: str) -> Object:
        self.asked += 1
        self.meanwhile()
        if self.gone:
            raise EngineError("the API server does not answer")
        if self.failure:
            raise self.failure
        return self.known.get(token, {"error": "not one of mine"})


def status(account: str = "tierserve-free:tierserve-worker", pod: str | None = f"{JOB}-x7k2p", **more: Any) -> Object:
    user = {"username": f"system:serviceaccount:{account}", "extra": {POD: [pod]} if pod else {}}
    return {"authenticated": True, "audiences": ["tierserve"], "user": user} | more


class Asked:
    """Credentials that ask such an API server, with a clock that a test moves."""

    def __init__(self, *known: tuple[str, Object]) -> None:
        self.now = 100.0
        self.cluster = Knowing(*known)
        self.credentials = WorkerReviews(self.cluster, lambda: {"tierserve-free": "free"}, lambda: self.now)


def test_a_workers_token_names_its_tier_and_job_and_is_asked_for_once_a_minute() -> None:
    world = Asked((GOOD, status()))
    assert world.credentials.recall(GOOD) is None
    assert world.credentials.check(GOOD) == OURS
    world.now += FRESH_SECONDS - 1
    assert world.credentials.recall(GOOD) == OURS
    world.now += 1
    assert world.credentials.recall(GOOD) is None
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
        Asked((OTHER, answer)).credentials.check(OTHER)


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "garbage",
        "a.b",
        "a.b.c.d",
        "..",
        "a.\xfc.c",
        "\ud800.a.b",
        shown([]),
        shown(None),
        shown("text"),
        shown({}),
        f"a.{base64.urlsafe_b64encode(b'[' * 6000).decode()}.c",
        token("long", jti="x" * 9000),
        token("other audience", aud=["api"]),
        token("no audience", aud=None),
        token("other account", sub="system:serviceaccount:tierserve-free:default"),
        token("other namespace", sub="system:serviceaccount:tierserve:tierserve-worker"),
        token("a person", sub="anna"),
        token("a list", sub=["system:serviceaccount:tierserve-free:tierserve-worker"]),
    ],
)
def test_what_no_pod_of_ours_shows_is_denied_without_asking(garbage: str) -> None:
    world = Asked()
    for ask in (world.credentials.check, world.credentials.recall):
        with pytest.raises(AccessDenied):
            ask(garbage)
    assert world.cluster.asked == 0


def test_a_token_that_was_denied_is_not_asked_for_again_at_once() -> None:
    world = Asked()
    for _ in range(9):
        with pytest.raises(AccessDenied):
            world.credentials.check(GOOD)
    assert world.cluster.asked == 1
    world.now += DENIED_SECONDS
    assert world.credentials.recall(GOOD) is None


def test_what_is_remembered_of_tokens_is_bounded() -> None:
    world = Asked(*((token(f"good {number}"), status()) for number in range(MOST_KEPT)))
    for number in range(MOST_KEPT):
        world.credentials.check(token(f"good {number}"))
        with pytest.raises(AccessDenied):
            world.credentials.check(token(f"bad {number}"))
    with pytest.raises(AccessDenied):
        world.credentials.check(token("one more"))
    assert world.credentials.recall(token("bad 0")) is None
    assert world.credentials.recall(token("good 0")) == OURS, "denied ones displace no good one"


def test_a_request_that_waited_for_a_thread_does_not_ask_again() -> None:
    world = Asked((GOOD, status()))
    for _ in range(9):
        assert world.credentials.check(GOOD) == OURS
    assert world.cluster.asked == 1


@pytest.mark.parametrize("code", [401, 403, 404, 409, 422, 429])
def test_a_refusal_is_no_outage(code: int) -> None:
    """Otherwise the token of a deleted pod would count for ten minutes."""
    world = Asked((GOOD, status()))
    world.credentials.check(GOOD)
    world.cluster.failure = ApiError(code, "no")
    world.now += REFUSED_SECONDS - 1
    assert world.credentials.check(GOOD) == OURS
    world.now += BUSY_SECONDS
    with pytest.raises(AccessUnknown):
        world.credentials.check(GOOD)
    world.cluster.failure = None
    world.cluster.known.clear()
    with pytest.raises(AccessDenied):
        world.credentials.check(GOOD)


@pytest.mark.parametrize("code", [500, 502, 503, 504])
def test_an_api_server_that_cannot_work_is_an_outage(code: int) -> None:
    world = Asked((GOOD, status()))
    world.credentials.check(GOOD)
    world.cluster.failure = ApiError(code, "no")
    world.now += STALE_SECONDS - 1
    assert world.credentials.check(GOOD) == OURS


def test_an_api_server_that_lists_is_there_even_if_it_reviews_nothing() -> None:
    world = Asked((GOOD, status()))
    world.credentials.check(GOOD)
    world.cluster.gone, world.cluster.listing = True, True
    world.now += REFUSED_SECONDS
    with pytest.raises(AccessUnknown):
        world.credentials.check(GOOD)


def test_a_known_worker_outlasts_an_outage_and_an_unknown_one_is_neither_taken_nor_denied() -> None:
    world = Asked((GOOD, status()), (OTHER, status()))
    world.credentials.check(GOOD)
    world.cluster.gone = True
    world.now += STALE_SECONDS - 1
    assert world.credentials.check(GOOD) == OURS
    with pytest.raises(AccessUnknown):
        world.credentials.check(OTHER)
    world.now += 1
    with pytest.raises(AccessUnknown):
        world.credentials.check(GOOD)


def test_while_the_api_server_is_silent_few_requests_wait_for_it() -> None:
    world = Asked((GOOD, status()), (OTHER, status()))
    for one in (GOOD, OTHER):
        world.credentials.check(one)
    world.cluster.gone = True
    world.now += FRESH_SECONDS
    for _ in range(9):
        assert world.credentials.recall(GOOD) or world.credentials.check(GOOD) == OURS
        assert world.credentials.recall(OTHER) or world.credentials.check(OTHER) == OURS
    assert world.cluster.asked == 3
    world.now += AGAIN_SECONDS
    assert world.credentials.check(GOOD) == OURS
    assert world.cluster.asked == 4
    world.cluster.gone = False
    world.now += AGAIN_SECONDS
    assert world.credentials.recall(GOOD) is None
    assert world.credentials.check(GOOD) == OURS
    assert world.credentials.recall(OTHER) is None, "it answers again: everybody is asked for"


def test_one_request_asks_a_silent_api_server_and_the_others_do_not_wait_for_it() -> None:
    world = Asked((GOOD, status()))
    world.credentials.check(GOOD)
    world.cluster.gone = True
    world.now += FRESH_SECONDS
    world.credentials.check(GOOD)
    world.now += AGAIN_SECONDS
    seen: list[Worker | None] = []
    world.cluster.meanwhile = lambda: seen.append(world.credentials.recall(GOOD))
    assert world.credentials.check(GOOD) == OURS
    assert seen == [OURS]


def test_a_token_that_is_no_longer_good_is_forgotten() -> None:
    world = Asked((GOOD, status()))
    world.credentials.check(GOOD)
    world.cluster.known.clear()
    world.now += FRESH_SECONDS
    for ask in (world.credentials.check, world.credentials.recall):
        with pytest.raises(AccessDenied):
            ask(GOOD)
