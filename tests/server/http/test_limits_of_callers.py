"""Each caller is held to its limits over HTTP, told them on every answer about a tier, and bothers no other caller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from server.blobs import BlobError
from server.settings.live import Live
from server.settings.sources import Files
from tests.running import Answer
from tests.server.http.http_site import (
    ANSWER_SECONDS,
    ASYNC,
    PICTURE,
    QUIET_SECONDS,
    Site,
    assert_problem,
    completion,
    running,
    settings_with,
    waits,
)
from tests.service.test_metrics import Series
from tests.waiting import eventually

ALL = {"perSecond": 0, "burst": 0, "perDay": 0, "queued": 0, "bytesQueued": 0}
ANNA, BEN = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
TWO = [("a", PICTURE), ("b", PICTURE)]


@contextmanager
def limited(folder: Path, **limits: float) -> Iterator[Site]:
    """A site whose tier free has these limits for each caller and no others. Callers are told apart by a proxy."""
    access = [f"tiers.free.access.{name}={value}" for name, value in (ALL | limits).items()]
    proxies = ["server.requireKeys=true", "server.trustedProxies={127.0.0.0/8}", "server.lobbySeconds=60"]
    with running(folder, settings_with(*access, *proxies)) as site:
        yield site


def send(site: Site, who: dict[str, str] = ANNA, key: str = "") -> Answer:
    return site.submit(headers={**who, **({"Idempotency-Key": key} if key else {})})


def send_many(site: Site, many: int, who: dict[str, str] = ANNA) -> Answer:
    """POST a form with so many pictures."""
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n%s\r\n' % PICTURE
    given = {"Content-Type": "multipart/form-data; boundary=b", **ASYNC, **who}
    return site.ask("POST", "/img-classification/free", part * many + b"--b--\r\n", given)


def hits(site: Site, limit: str) -> float | None:
    return Series(site.internal.get("/metrics").body).of("limits_hit_total", tier="free", limit=limit)


def test_a_caller_that_asks_too_often_is_told_when_it_may_again(tmp_path: Path) -> None:
    with limited(tmp_path, perSecond=0.5, burst=2) as site:
        assert hits(site, "perSecond") == 0
        first, second = send(site), send(site)
        assert (first.status, second.status) == (202, 202)
        assert first.headers["Ratelimit-Policy"] == '"second";q=2;w=4'
        assert (first.headers["Ratelimit"], second.headers["Ratelimit"]) == ('"second";r=1;t=2', '"second";r=0;t=2')
        refused = send(site)
        assert_problem(refused, 429, "rate_limit")
        assert (refused.json["limit"], refused.json["per_second"], refused.json["burst"]) == ("perSecond", 0.5, 2)
        assert (refused.headers["Retry-After"], refused.headers["Ratelimit"]) == ("2", '"second";r=0;t=2')
        assert send(site, BEN).status == 202
        early = site.exchange(
            b"POST /img-classification/free HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n"
            b"X-Forwarded-For: 192.0.2.1\r\n\r\n"
        )
        assert b" 429 " in early.partition(b"\r\n")[0], "before the body"
        site.clock.advance(2)
        assert send(site).status == 202
        assert hits(site, "perSecond") == 2


def test_every_answer_about_a_tier_tells_the_limits(tmp_path: Path) -> None:
    with limited(tmp_path, perSecond=1, burst=5, perDay=1000) as site:
        kept = send(site)
        policy, state = '"second";q=5;w=5, "day";q=1000;w=86400', '"second";r=4;t=1, "day";r=999;t='
        answers = [
            kept,
            site.ask("GET", "/v1/tiers/free", headers=ANNA),
            site.ask("GET", kept.headers["Location"], headers=ANNA),
            site.ask("DELETE", kept.headers["Location"], headers=ANNA),
            site.ask("POST", "/img-classification/free", b"x", {"Content-Type": "text/plain", **ANNA}),
        ]
        assert [answer.status for answer in answers] == [202, 200, 200, 200, 415]
        for answer in answers:
            assert answer.headers["Ratelimit-Policy"] == policy
            assert answer.headers["Ratelimit"].startswith(state.replace("4", "3") if answer.status == 415 else state)
        for path in ("/v1/tiers", "/v1/tiers/gold", "/v1/tiers/premium", "/healthz"):
            assert "Ratelimit" not in site.ask("GET", path, headers=ANNA).headers


def test_on_loopback_there_are_no_limits(site: Site) -> None:
    answers = [site.submit() for _ in range(105)]
    assert {answer.status for answer in answers} == {202}
    assert "Ratelimit" not in answers[0].headers
    access = site.get("/v1/tiers/free").json["access"]
    assert set(access["limits"].values()) == {None}


def test_a_caller_may_have_so_many_waiting_predictions(tmp_path: Path) -> None:
    with limited(tmp_path, queued=2) as site:
        first, second = send(site), send(site)
        assert (first.status, second.status) == (202, 202)
        refused = send(site)
        assert_problem(refused, 429, "queued_limit")
        assert (refused.json["limit"], refused.json["limit_queued"], refused.json["queued"]) == ("queued", 2, 2)
        assert 1 <= int(refused.headers["Retry-After"]) <= 5
        assert send(site, BEN).status == 202
        site.ask("DELETE", first.headers["Location"], headers=ANNA)
        assert send(site).status == 202
        assert hits(site, "queued") == 1


def test_a_caller_may_have_so_many_waiting_bytes(tmp_path: Path) -> None:
    with limited(tmp_path, bytesQueued=300) as site:
        assert (send(site).status, send(site).status) == (202, 202)
        refused = send(site)
        assert_problem(refused, 429, "bytes_queued_limit")
        assert (refused.json["limit"], refused.json["limit_bytes_queued"]) == ("bytesQueued", 300)
        assert 200 < refused.json["bytes_queued"] <= 300
        assert send(site, BEN).status == 202
        assert_problem(send_many(site, 3, BEN), 429, "bytes_queued_limit")
        assert "Retry-After" not in send_many(site, 3, BEN).headers, "it will never fit"


def test_requests_that_arrive_at_once_do_not_pass_a_limit_together(tmp_path: Path) -> None:
    """All of them pass the gate before any of them is accepted: only the table sees that there are too many."""
    with limited(tmp_path, queued=3) as site:
        asking = [site.callers.submit(send, site) for _ in range(8)]
        statuses = sorted(one.result(ANSWER_SECONDS).status for one in asking)
        assert statuses == [202] * 3 + [429] * 5
        assert waits(site) == 3


def test_what_waits_in_the_lobby_counts(tmp_path: Path) -> None:
    with limited(tmp_path, queued=2) as site:
        channel = site.worker(site.job())
        waiting = [site.callers.submit(site.post, "free", PICTURE, ANNA) for _ in range(2)]

        def queued() -> Any:
            return site.get("/v1/tiers/free").json["queued"]

        eventually(queued, ANSWER_SECONDS, "both wait in the lobby", lambda many: many == 2)
        assert waits(site) == 0
        assert_problem(site.post("free", PICTURE, ANNA), 429, "queued_limit")
        assert_problem(send(site), 429, "queued_limit")
        site.clock.advance(1)
        assert send(site, BEN).status == 202
        channel.grant(1)
        (one,) = channel.lease()
        assert send(site).status == 202, "what is worked on does not wait"
        assert_problem(site.post("free", PICTURE, ANNA), 429, "queued_limit")
        channel.say({"completions": [completion(one)]})
        for _ in range(3):
            channel.grant(1)
            (one,) = channel.lease()
            channel.say({"completions": [completion(one)]})
        assert {answer.result(ANSWER_SECONDS).status for answer in waiting} == {200}


def test_requests_whose_bodies_come_at_once_do_not_pass_a_limit_of_the_lobby_together(tmp_path: Path) -> None:
    """All of them pass the gate while none of them waits."""
    head = b"POST /img-classification/free HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n"
    head += b"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % len(PICTURE)
    with limited(tmp_path, queued=3) as site, ExitStack() as stack:
        site.worker(site.job())
        connections = [stack.enter_context(site.connected()) for _ in range(8)]
        for connection in connections:
            connection.sendall(head)

        def awaited() -> int:
            return site.call(lambda: len(site.services.slow_bodies.coming))

        eventually(awaited, ANSWER_SECONDS, "all bodies are awaited", lambda many: many == 8)
        for connection in connections:
            connection.sendall(PICTURE)
        refused = 0
        for connection in connections:
            connection.settimeout(QUIET_SECONDS)
            with suppress(TimeoutError):
                refused += b"queued_limit" in connection.recv(65536)
        assert refused == 5
        assert site.get("/v1/tiers/free").json["queued"] == 3
        assert waits(site) == 0


def test_a_caller_has_so_many_pictures_a_day(tmp_path: Path) -> None:
    with limited(tmp_path, perDay=5) as site:
        assert send_many(site, 3).status == 202
        refused = send_many(site, 3)
        assert_problem(refused, 429, "day_limit")
        assert (refused.json["limit"], refused.json["per_day"], refused.json["left"]) == ("perDay", 5, 2)
        until_midnight = 86400 - site.clock.now % 86400
        assert float(refused.headers["Retry-After"]) == until_midnight
        assert refused.headers["Ratelimit"] == f'"day";r=2;t={until_midnight:g}'
        assert send_many(site, 2).status == 202
        early = site.ask("POST", "/img-classification/free", None, {"Content-Length": "1000", **ANNA})
        assert_problem(early, 429, "day_limit")
        assert send_many(site, 5, BEN).status == 202
        assert hits(site, "perDay") == 2
        site.clock.advance(until_midnight)
        assert send_many(site, 5).status == 202


def test_pictures_of_the_lobby_count_for_the_day(tmp_path: Path) -> None:
    with limited(tmp_path, perDay=2) as site:
        channel = site.worker(site.job())
        for _ in range(2):
            answer = site.callers.submit(site.post, "free", PICTURE, ANNA)
            channel.grant(1)
            (one,) = channel.lease()
            channel.say({"completions": [completion(one)]})
            assert answer.result(ANSWER_SECONDS).status == 200
        assert waits(site) == 0
        assert_problem(site.post("free", PICTURE, ANNA), 429, "day_limit")


def test_pictures_that_could_not_be_kept_do_not_count(tmp_path: Path) -> None:
    with limited(tmp_path, perDay=1) as site:
        site.blobs.failure = BlobError("the disk is sick")
        assert send(site).status == 503
        site.blobs.failure = None
        site.services.storage_check.step()
        assert send(site).status == 202


@pytest.mark.parametrize("limits", [{"perDay": 1}, {"queued": 1}, {"bytesQueued": 150}])
def test_a_repeated_request_passes_the_limits_of_new_ones(tmp_path: Path, limits: dict[str, float]) -> None:
    with limited(tmp_path, **limits) as site:
        first = send(site, key="a")
        assert first.status == 202
        assert send(site).status == 429
        for _ in range(3):
            again = send(site, key="a")
            assert (again.status, again.json["id"]) == (202, first.json["id"])
        assert send(site, key="b").status == 429


def test_a_repeated_request_counts_as_one(tmp_path: Path) -> None:
    with limited(tmp_path, perSecond=1, burst=2) as site:
        answers = [send(site, key="a").status for _ in range(3)]
        assert answers == [202, 202, 429]


def test_repeated_requests_at_once_take_the_pictures_of_one(tmp_path: Path) -> None:
    with limited(tmp_path, perDay=9) as site:
        asking = [site.callers.submit(lambda: send(site, key="a")) for _ in range(8)]
        assert len({one.result(ANSWER_SECONDS).json["id"] for one in asking}) == 1
        assert site.ask("GET", "/v1/tiers/free", headers=ANNA).json["access"]["left"]["pictures"] == 8


def test_a_tier_shows_what_is_left_to_the_caller(tmp_path: Path) -> None:
    with limited(tmp_path, perSecond=2, burst=4, perDay=10, queued=3, bytesQueued=1000) as site:
        send(site)
        access = site.ask("GET", "/v1/tiers/free", headers=ANNA).json["access"]
        assert (access["anonymous"], access["allowed"]) == (True, True)
        assert access["limits"] == {"per_second": 2, "burst": 4, "per_day": 10, "queued": 3, "bytes_queued": 1000}
        left = access["left"]
        assert (left["requests"], left["pictures"], left["queued"]) == (3, 9, 2)
        assert 800 < left["bytes_queued"] < 900
        assert site.ask("GET", "/v1/tiers/free", headers=BEN).json["access"]["left"]["pictures"] == 10
        free, premium = site.ask("GET", "/v1/tiers", headers=ANNA).json["tiers"]
        assert free["access"] == access
        assert (premium["access"]["anonymous"], premium["access"]["allowed"]) == (False, False)


def test_new_limits_count_at_once(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("tiers: {free: {access: {perSecond: 1, burst: 1}}}")
    live = Live(Files((values,), overrides=("server.requireKeys=true",)))
    with running(tmp_path, live) as site:
        assert [send(site).status for _ in range(2)] == [202, 429]
        values.write_text("tiers: {free: {access: {perSecond: 1, burst: 3}}}")
        eventually(lambda: live.refresh(lambda _: None), ANSWER_SECONDS, "the new values are in force")
        assert [send(site).status for _ in range(3)] == [202, 202, 429]
