"""Rows 45 to 51 of the list of faults: what waits in memory, without any promise, until it is answered."""

from __future__ import annotations

import http.client
import random
import shutil
import signal
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.channel import Channel, Closed, Lease
from tests.faults.conftest import Begin, work_in
from tests.faults.databases import POSTGRESQL, database
from tests.faults.evidence import disk
from tests.faults.history import History
from tests.faults.pictures import POISON, Pictures
from tests.faults.proxy import Proxy
from tests.faults.test_full_disk import unwritable
from tests.faults.world import World
from tests.faults.zygote import Zygote
from tests.postgres import need_postgres
from tests.running import Answer, Client, default_model, lacking
from tests.server.http.http_site import completion
from tests.service.pictures import CAT
from tests.service.test_classify import is_cat
from tests.service.test_metrics import Series
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

SETTINGS = ("server.tickSeconds=0.3", "tiers.free.quota.pods=1", "tiers.premium.quota.pods=0")
LASTING = "server.lobbySeconds=60"
ASYNC, WAIT = {"Prefer": "respond-async"}, {"Prefer": "wait=60"}
SECONDS = 30.0
CALLERS = 20
LARGE = CAT + bytes(4 * 1024 * 1024)  # a decoder stops at the end of the picture


@contextmanager
def callers(world: World, count: int, picture: bytes = CAT) -> Iterator[list[Future[Answer]]]:
    """So many callers that wait in the lobby."""
    with ThreadPoolExecutor(count) as pool:
        found = [pool.submit(world.service.post, "free", picture, WAIT) for _ in range(count)]
        waiting(world, count)
        yield found


def waiting(world: World, count: int) -> None:
    """Return when so many predictions wait."""
    client = Client(world.service.internal_port)
    eventually(
        lambda: Series(client.get("/metrics").body).of("predictions_queued", tier="free"),
        SECONDS,
        f"{count} wait",
        lambda found: found == count,
    )


def channel_in(world: World) -> Channel:
    """The channel of a Job, which was started for a prediction that has ended."""
    assert world.service.post("free", CAT, ASYNC).status == 202
    channel = work_in(world)
    finish(channel, 1)
    return channel


def finish(channel: Channel, count: int) -> None:
    leases = lease(channel, count)
    assert channel.complete([completion(one, model=default_model()) for one in leases]) == ["accepted"] * count


def lease(channel: Channel, count: int) -> Sequence[Lease]:
    channel.grant(count)
    leases = channel.lease(count)
    assert len(leases) == count
    return leases


def broken(call: Future[Answer]) -> bool:
    return isinstance(call.exception(SECONDS), OSError | http.client.HTTPException)


def on_disk(world: World) -> tuple[int, int]:
    """How many rows, and how many pictures."""
    found = disk(world)
    assert (found["missing"], found["broken"]) == ([], "")
    return len(found["rows"]), found["blobs"]


def test_45_a_worker_that_dies_of_a_picture_of_the_lobby_takes_no_neighbour_along(
    begin: Begin, pictures: Pictures, seed: int
) -> None:
    world = begin(*SETTINGS, "tiers.free.limits.attempts=2", real=True)
    chance = random.Random(seed)
    assert is_cat(world.service.post("free", CAT))
    asked = [pictures.make(chance, POISON if number == 3 else bytes(len(POISON))) for number in range(8)]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda one: world.service.post("free", one.data, WAIT), asked))
    for answer, picture in zip(answers, asked, strict=True):
        if picture.mark == POISON:
            end = answer.json["prediction"]
            assert (end["status"], end["error"]["code"], end["attempts"]) == ("failed", "attempts_exhausted", 2)
        else:
            assert answer.status == 200
            assert answer.json["results"][0]["labels"][0]["label"] == pictures.labels[picture.name]


def test_46_a_server_killed_with_a_full_lobby_forgets_what_it_promised_nobody(begin: Begin) -> None:
    world = begin(*SETTINGS, LASTING)
    channel = channel_in(world)
    with callers(world, CALLERS) as calls:
        held = lease(channel, 1)
        world.end(signal.SIGKILL)
        assert all(broken(call) for call in calls)
    with pytest.raises(Closed):
        channel.complete([completion(one, model=default_model()) for one in held])
    channel.close()
    assert on_disk(world) == (1, 0)
    world.start(real=False)
    assert world.wait_up()
    with channel_in(world) as anew:
        assert anew.complete([completion(one, model=default_model()) for one in held]) == ["unknown"]
    world.end(signal.SIGTERM)
    assert on_disk(world) == (2, 0)


def test_47_a_caller_that_hangs_up_in_the_lobby_is_not_worked_for(begin: Begin) -> None:
    world = begin(*SETTINGS, LASTING)
    head = f"POST /img-classification/free HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(CAT)}\r\n\r\n"
    with channel_in(world) as channel, ExitStack() as stack:
        ends = [stack.enter_context(socket.create_connection(("127.0.0.1", world.service.port))) for _ in range(5)]
        for end in ends:
            end.sendall(head.encode() + CAT)
        waiting(world, 5)
        (begun,) = lease(channel, 1)
        stack.close()
        waiting(world, 0)
        channel.grant(5)
        assert channel.lease(5, 0.5) == []
        assert channel.complete([completion(begun, model=default_model())]) == ["accepted"]
        assert world.get(f"/v1/predictions/{begun['id']}").json["status"] == "succeeded"
    world.end(signal.SIGTERM)
    assert on_disk(world) == (2, 0)


@pytest.mark.parametrize("error", ["EROFS", "ENOSPC"])
def test_48_results_that_cannot_be_committed_are_told_and_leave_nothing(begin: Begin, error: str) -> None:
    if shutil.which("strace") is None:
        lacking("strace is not installed: apt-get install strace")
    world = begin(*SETTINGS, LASTING)
    with channel_in(world) as channel, callers(world, 3) as calls:
        leases = lease(channel, 3)
        with unwritable(world, error):
            assert channel.complete([completion(one, model=default_model()) for one in leases]) == 3 * ["accepted"]
            for call in calls:
                answer = call.result(SECONDS)
                assert answer.status == 503
                # A commit that failed may still have reached the disk, and so its caller is told.
                assert answer.json["code"] in ("storage_unavailable", "disk_full", "outcome_unknown")
        for one in leases:
            assert world.get(f"/v1/predictions/{one['id']}").status == 404
        assert set(channel.complete([completion(one, model=default_model()) for one in leases])) == {"unknown"}
        eventually(lambda: world.get("/readyz").status, SECONDS, "it has healed", lambda status: status == 200)
        with callers(world, 1) as (call,):
            finish(channel, 1)
            assert call.result(SECONDS).status == 200
    world.end(signal.SIGTERM)
    assert on_disk(world) == (2, 0)


def test_49_a_lobby_outlasts_a_database_that_is_away(models: Path, tmp_path: Path, zygote: Zygote) -> None:
    need_postgres()
    history = History(tmp_path / "history.jsonl")
    with (
        database(POSTGRESQL) as where,
        World(tmp_path / "world", models, zygote, history, [*SETTINGS, "server.lobbySeconds=1"], where) as world,
    ):
        assert where.server is not None
        world.start(real=False)
        assert world.wait_up()
        with channel_in(world) as channel, callers(world, 3) as calls:
            where.server.stop()
            ready(world, 503)
            channel.grant(3)
            # Whether some come now depends on what the server knows of the table, in which older ones may wait.
            leases = channel.lease(3, 1.0, 1.0)
            assert not any(call.done() for call in calls)
            where.server.start()
            ready(world, 200)
            leases += channel.lease(3 - len(leases))
            assert channel.complete([completion(one, model=default_model()) for one in leases]) == 3 * ["accepted"]
            ends = [call.result(SECONDS) for call in calls]
            assert [end.status for end in ends] == 3 * [200]
            for end in ends:
                assert world.get(f"/v1/predictions/{end.json['id']}").json["attempts"] == 1
        world.end(signal.SIGTERM)
        assert on_disk(world) == (4, 0)
    history.close()


def ready(world: World, status: int) -> None:
    eventually(lambda: world.get("/readyz").status, SECONDS, f"/readyz says {status}", lambda seen: seen == status)


def test_50_a_server_stopped_with_a_full_lobby_keeps_all_of_it(begin: Begin) -> None:
    world = begin(*SETTINGS, LASTING)
    with channel_in(world) as channel, callers(world, CALLERS) as calls:
        held = lease(channel, 2)
        world.end(signal.SIGTERM)
        answers = [call.result(SECONDS) for call in calls]
        assert channel.ended().code == 1001
    assert Counter(answer.status for answer in answers) == {202: CALLERS}
    states: dict[str, Any] = {row[0]: row[2] for row in disk(world)["rows"]}
    ids = {answer.json["id"] for answer in answers}
    assert len(ids) == CALLERS
    assert {one["id"] for one in held} <= ids
    assert {states[key] for key in ids} <= {"queued", "leased"}
    assert on_disk(world) == (1 + CALLERS, CALLERS)
    world.start(real=False)
    assert world.wait_up()
    with work_in(world) as channel:
        for _ in ids:
            finish(channel, 1)
    assert all(world.get(f"/v1/predictions/{key}").json["status"] == "succeeded" for key in ids)


def test_51_a_channel_that_breaks_in_a_frame_costs_no_attempt(begin: Begin, seed: int) -> None:
    world = begin(*SETTINGS, LASTING)
    with channel_in(world) as first:
        token = first.token
    with Proxy(world.service.internal_port, seed) as proxy:
        proxy.most = 100_000  # the frame has more
        with Channel(f"http://127.0.0.1:{proxy.port}", token) as cut:
            cut.hold()
            with callers(world, 1, LARGE) as (call,):
                cut.grant(1)
                assert cut.ended().code == 1006
                with work_in(world) as channel:
                    (one,) = lease(channel, 1)
                    assert len(one["blob"]) > len(LARGE)
                    assert channel.complete([completion(one, model=default_model())]) == ["accepted"]
                answer = call.result(SECONDS)
    assert (answer.status, answer.json["attempts"]) == (200, 1)
