"""Owners with keys and a crowd without on two servers with one PostgreSQL, and a laptop on which nobody has a key."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.access import Issued, Operator
from tests.postgres import Postgres, need_postgres
from tests.running import ROOT, Answer, Service, lacking, service
from tests.service.pictures import CAT
from tests.service.test_classify import is_cat, multipart
from tests.waiting import eventually

ASYNC = {"Prefer": "respond-async"}
KEY_SECONDS = 2.0
SETTLED_SECONDS, SECONDS = 2.0, 15.0
OVER = 0.1
FLOOD = 80
NUMBERS = itertools.count()
ADMITTED = "tiers: {free: {quota: {pods: %d}, access: {perSecond: 0, queued: 0}}, premium: {quota: {pods: 0}}}\n"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two servers of one database, the file with their settings, and who makes keys at the first one."""

    servers: Sequence[Service]
    values: Path
    operator: Operator

    def create(self, owner: str, *tiers: str, **more: Any) -> Issued:
        """A key that both servers know."""
        key = self.operator.create(owner, *tiers, **more)
        for server in self.servers:
            opens(server, key)
        return key

    def each(self, number: int) -> Service:
        """The servers in turn."""
        return self.servers[number % len(self.servers)]


@pytest.fixture(scope="module")
def pair(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    need_postgres()
    folder = tmp_path_factory.mktemp("pair")
    values = folder / "values.yaml"
    values.write_text(ADMITTED % 0)
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres())
        options = [
            "--database",
            postgres.url,
            "--blobs",
            str(folder / "blobs"),
            "--pepper-file",
            str(folder / "pepper"),
        ]
        (folder / "pepper").write_text("not-a-secret-but-long-enough")
        settings = ["server.requireKeys=true", "server.trustedProxies={127.0.0.0/8}"]
        servers = [
            stack.enter_context(service(models, folder / name, settings, values, options))
            for name in ("first", "second")
        ]
        yield Pair(servers, values, Operator(servers[0].internal_port, servers[0].state / "admin-token"))


def opens(server: Service, key: Issued) -> None:
    eventually(lambda: enter(server, key), KEY_SECONDS, "the server knows the key", lambda status: status == 200)


def shuts(server: Service, key: Issued) -> None:
    eventually(lambda: enter(server, key), KEY_SECONDS, "the server refuses the key", lambda status: status == 401)


def enter(server: Service, key: Issued) -> int:
    """Show a key, from another address each time: of one address few wrong keys are looked at."""
    number = next(NUMBERS)
    source = {"X-Forwarded-For": f"10.0.{number // 256 % 256}.{number % 256}"}
    return server.ask("GET", "/v1/predictions?limit=1", None, key.headers | source).status


def submit(server: Service, key: Issued | None = None, tier: str = "free") -> Answer:
    return server.post(tier, CAT, {**ASYNC, **(key.headers if key else {})})


def many(count: int, do: Callable[[int], Answer]) -> list[str]:
    """What many requests made, by the addresses of the predictions."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(do, range(count)))
    assert Counter(answer.status for answer in answers) == {202: count}
    return [answer.headers["Location"] for answer in answers]


def test_a_tier_is_open_to_whom_it_was_given(pair: Pair) -> None:
    free, both = pair.create("ash"), pair.create("elm", "free", "premium")
    for server in pair.servers:
        assert submit(server).status == 202
        refused = submit(server, tier="premium")
        assert (refused.status, refused.json["code"]) == (401, "key_missing")
        assert refused.headers["Www-Authenticate"].startswith("Bearer")
        refused = submit(server, free, "premium")
        assert (refused.status, refused.json["code"]) == (403, "tier_not_allowed")
        assert submit(server, both, "premium").status == 202
        wrong = submit(server, Issued(free.id, free.key[:-4] + "aaaa"))
        assert (wrong.status, wrong.json["code"]) == (401, "key_unknown")
        assert server.post("free", CAT, {**ASYNC, "X-API-Key": free.key}).status == 202


def test_nobody_sees_anothers_prediction_at_either_server(pair: Pair) -> None:
    ash, elm = pair.create("ash"), pair.create("elm")
    mine = submit(pair.servers[0], ash).headers["Location"]
    shared = submit(pair.servers[0]).headers["Location"]
    for server in pair.servers:
        for stranger in (elm.headers, {}):
            for method in ("GET", "DELETE"):
                for query in ("", "?wait=1"):
                    answer = server.ask(method, mine + query, None, stranger)
                    assert (answer.status, answer.json["code"]) == (404, "no_such_prediction")
        assert server.ask("GET", mine, None, ash.headers).json["status"] == "queued"
        assert server.get(shared).json["status"] == "queued"
        listed = [one["id"] for one in server.ask("GET", "/v1/predictions", None, ash.headers).json["predictions"]]
        assert mine.rpartition("/")[2] in listed
        others = server.ask("GET", "/v1/predictions?limit=100", None, elm.headers).json["predictions"]
        assert not set(listed) & {one["id"] for one in others}
    assert pair.servers[1].ask("DELETE", mine, None, ash.headers).status == 200


def flood(pair: Pair, key: Issued, seconds: float) -> tuple[list[tuple[float, Answer]], float]:
    """Submit at both servers at once for so long; returns all answers with their moments, and the first moment."""
    began = time.monotonic()

    def work(number: int) -> list[tuple[float, Answer]]:
        found = []
        while (now := time.monotonic() - began) < seconds:
            found.append((now, submit(pair.each(number), key)))
            time.sleep(0.02 if found[-1][1].status == 429 else 0)
        return found

    with ThreadPoolExecutor(4) as pool:
        return [one for part in pool.map(work, range(4)) for one in part], began


def accepted(answers: Sequence[tuple[float, Answer]]) -> int:
    return sum(answer.status == 202 for _, answer in answers)


def test_a_rate_holds_over_both_servers(pair: Pair) -> None:
    key = pair.create("oak", limits={"perSecond": 20, "burst": 10})
    answers, _ = flood(pair, key, SETTLED_SECONDS + SECONDS)
    later = [one for one in answers if one[0] > SETTLED_SECONDS]
    assert accepted(later) == pytest.approx(20 * SECONDS, rel=OVER)
    (refused, *_) = [answer for _, answer in answers if answer.status == 429]
    assert refused.json["code"] == "rate_limit"
    assert int(refused.headers["Retry-After"]) >= 1
    told = {name.lower(): value for name, value in refused.headers.items()}
    assert '"second";r=0' in told["ratelimit"]
    assert '"second";q=' in told["ratelimit-policy"]


def test_pictures_a_day_hold_over_both_servers(pair: Pair) -> None:
    key = pair.create("fir", limits={"perDay": 60})
    answers, _ = flood(pair, key, 3.0)
    assert accepted(answers) == pytest.approx(60, rel=OVER)
    assert {answer.json["code"] for _, answer in answers if answer.status == 429} == {"day_limit"}


def test_what_waits_is_limited_over_both_servers(pair: Pair) -> None:
    key = pair.create("yew", limits={"queued": 20})
    answers, _ = flood(pair, key, 3.0)
    assert accepted(answers) == pytest.approx(20, rel=OVER)
    assert {answer.json["code"] for _, answer in answers if answer.status == 429} == {"queued_limit"}


def used(statuses: Counter[int]) -> None:
    """Return when some more requests have been accepted."""
    was = statuses[202]
    eventually(lambda: statuses[202] - was, 20, "requests go on", lambda more: more > 20)


def test_a_key_is_rotated_under_load_and_revoked_within_two_seconds(pair: Pair) -> None:
    old = pair.create("bay")
    statuses: Counter[int] = Counter()
    current, over = [old], threading.Event()

    def work(number: int) -> None:
        while not over.is_set():
            statuses[submit(pair.each(number), current[0]).status] += 1

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, number) for number in range(4)]
        try:
            new = pair.operator.rotate(old.id)
            for server in pair.servers:
                opens(server, new)
            current[0] = new
            used(statuses)
        finally:
            over.set()
    for done in working:
        done.result()
    assert set(statuses) == {202}
    assert pair.operator.revoke(old.id).status < 300
    for server in pair.servers:
        shuts(server, old)
        assert submit(server, old).json["code"] == "key_revoked"
        assert enter(server, new) == 200


@pytest.mark.timeout(240)
def test_owners_share_a_tier_by_weight_beside_a_crowd(pair: Pair) -> None:
    """Worked off by one worker: what each one has of the first that begin is its share, whoever came first."""
    light, heavy = pair.create("fern"), pair.create("moss", weight=3)
    parties = {
        "crowd": many(FLOOD, lambda number: submit(pair.each(number))),
        "heavy": many(FLOOD, lambda number: submit(pair.each(number), heavy)),
        "light": many(FLOOD, lambda number: submit(pair.each(number), light)),
    }
    headers = {"crowd": {}, "heavy": heavy.headers, "light": light.headers}
    late = submit(pair.servers[1], pair.create("reed"))
    assert late.json["queue"]["ahead"] <= 20  # of some 240: those of one turn of everybody who waits
    pair.values.write_text(ADMITTED % 1)
    ends = [
        (pair.servers[0].ask("GET", f"{url}?wait=60", None, headers[name]).json, name)
        for name, urls in parties.items()
        for url in urls
    ]
    assert {end["status"] for end, _ in ends} == {"succeeded"}
    first = sorted(ends, key=lambda one: one[0]["started_at"])[: FLOOD * 4 // 3]
    shares = Counter(name for _, name in first)
    for name, weight in (("crowd", 1), ("heavy", 3), ("light", 1)):
        # Eight for what a worker leases at once at the cut.
        assert abs(shares[name] - weight * sum(shares.values()) / 5) <= 8 + weight, shares
    for name in ("heavy", "light"):
        # Of eight threads, one owner's order is that of their answers only roughly, so only far ones are compared.
        own = [end["started_at"] for end, party in ends if party == name]
        assert all(earlier <= later for earlier, later in zip(own, own[16:], strict=False))


def test_on_a_laptop_calls_without_a_key_are_as_they_were(running: Service) -> None:
    data = base64.b64encode(CAT).decode()
    forms = (
        (CAT, {"Content-Type": "image/jpeg"}),
        (CAT, {"Content-Type": "application/x-www-form-urlencoded"}),  # as curl --data-binary has it
        multipart([CAT]),
        (json.dumps({"inputs": f"data:image/jpeg;base64,{data}"}).encode(), {"Content-Type": "application/json"}),
        (json.dumps({"inputs": [data]}).encode(), {"Content-Type": "text/plain"}),
    )
    for body, headers in forms:
        for tier in ("free", "premium"):
            answer = running.post(tier, body, headers)
            assert is_cat(answer)
            assert not [name for name in answer.headers if name.lower().startswith("ratelimit")]
    made = running.post("premium", CAT, ASYNC).headers["Location"]
    assert is_cat(running.get(f"{made}?wait=30"))
    assert running.ask("DELETE", made).status == 200


def test_on_a_laptop_the_command_of_the_readme_is_as_it_was(running: Service) -> None:
    if not shutil.which("curl"):
        lacking("no curl: apt-get install curl")
    url = f"http://127.0.0.1:{running.port}/img-classification/free"
    words = ["curl", "--silent", "--max-time", "30", "--data-binary", f"@{ROOT}/model/pictures/cat.jpg", url]
    done = subprocess.run(words, capture_output=True, timeout=40, check=True)
    assert is_cat(Answer(200, {}, done.stdout))
