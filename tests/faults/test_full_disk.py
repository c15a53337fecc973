"""A full disk is a state: nothing new is taken, what was accepted goes on, and room comes back by itself."""

from __future__ import annotations

import operator
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from server.disk import BALLAST
from tests.faults.conftest import Begin, work_in
from tests.faults.evidence import disk
from tests.faults.small_disk import small_disk
from tests.faults.world import World
from tests.running import Answer, Client, default_model, lacking
from tests.server.http.http_site import assert_problem, completion
from tests.service.pictures import CAT
from tests.service.test_metrics import Series
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

MEGABYTES = 40
LEASE = 6.0
SETTINGS = (
    "tiers.premium.quota.pods=0",
    "tiers.free.quota.pods=1",
    f"server.lease.seconds={LEASE}",
    "server.lease.heartbeatSeconds=2",
    "server.lease.reclaimSeconds=1",
)
ASYNC = {"Prefer": "respond-async"}
LARGE = CAT + bytes(4 * 1024 * 1024)  # a decoder stops at the end of the picture
SECONDS = 30.0


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", MEGABYTES) as folder:
        if folder is None:
            lacking("only root can mount a small filesystem")
        else:
            yield folder


def fill(world: World) -> tuple[list[str], Answer]:
    """Send pictures until not even a small one is taken; returns the ids of those accepted, and the last answer."""
    accepted, answer = [], world.service.post("premium", LARGE, ASYNC)
    for picture in (LARGE, CAT):
        for _ in range(200):
            if answer.status != 202:
                break
            accepted.append(answer.json["id"])
            answer = world.service.post("premium", picture, ASYNC)
        if picture is LARGE:
            answer = world.service.post("premium", CAT, ASYNC)
    assert answer.status != 202, "the disk should be full by now"
    return accepted, answer


def fill_up(folder: Path) -> None:
    """Have another program take all the room that is left."""
    with (folder / "junk").open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def ready(world: World, status: int) -> Answer:
    return eventually(
        lambda: world.get("/readyz"), SECONDS, f"/readyz says {status}", lambda answer: answer.status == status
    )


@contextmanager
def unwritable(world: World, error: str = "EROFS") -> Iterator[None]:
    """Writes to the database's log fail while the block lasts, if not told as on a read-only filesystem."""
    assert world.life is not None
    told = world.folder / "strace"
    words = ["-f", "-p", str(world.life.pid), "-P", str(world.state / "data" / "queue.db-wal")]
    with told.open("wb") as file:
        inject = ["-e", "trace=pwrite64", "-e", f"inject=pwrite64:error={error}"]
        strace = subprocess.Popen(["strace", *words, *inject], stderr=file)
    try:
        eventually(told.read_text, SECONDS, "strace is attached", lambda text: "attached" in text)
        yield
    finally:
        strace.terminate()
        try:
            strace.wait(5)
        except subprocess.TimeoutExpired:
            strace.kill()
            strace.wait()


def labelled(world: World) -> None:
    """Be the worker of one prediction."""
    with work_in(world) as channel:
        channel.grant(1)
        (one,) = channel.lease()
        assert channel.complete([completion(one, model=default_model())]) == ["accepted"]


def blobs(world: World) -> set[str]:
    return set(os.listdir(world.state / "data" / "blobs"))  # noqa: PTH208 (names alone)


def test_03_ordinary_requests_fill_the_disk_and_all_of_them_end(begin: Begin, roomy: Path) -> None:
    world = begin(*SETTINGS, folder=roomy / "world")
    late = world.service.post("free", CAT, ASYNC | {"Cancel-After": "8s"}).json["id"]
    accepted_at = time.monotonic()
    canceled = world.service.post("free", LARGE, ASYNC).json["id"]
    done = world.service.post("free", LARGE, ASYNC).json["id"]
    waiting, answer = fill(world)
    assert_problem(answer, 503, "disk_full")
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json["free_bytes"] < answer.json["reserve_bytes"] * 2
    told = ready(world, 503).json
    assert (told["code"], told["status"]) == ("disk_full", "no new work")
    assert world.get("/readyz?for=reading").status == 200
    assert world.get("/healthz").status == 200
    metrics = Series(Client(world.service.internal_port).get("/metrics").body)
    assert metrics.of("storage_accepting") == 0
    assert 0 < (metrics.of("disk_free_bytes", disk="data") or 0) < 10 * 1024 * 1024
    assert (metrics.of("queue_bytes", tier="premium") or 0) > 16 * 1024 * 1024

    fill_up(roomy)  # not even the reserve is left
    assert world.service.ask("DELETE", f"/v1/predictions/{canceled}").json["status"] == "canceled"
    eventually(lambda: canceled in blobs(world), SECONDS, "its pictures are gone", operator.not_)
    channel = work_in(world)
    channel.grant(1)
    (one,) = channel.lease()
    assert one["id"] in (late, done)
    world.end(signal.SIGKILL)
    with suppress(ConnectionClosed):
        channel.close()
    world.start(real=False)
    assert world.wait_up(), "it starts on a full disk"
    ended = eventually(
        lambda: world.get(f"/v1/predictions/{late}"),
        SECONDS,
        "its deadline ends it",
        lambda found: found.json["status"] in ("aborted", "expired"),
        (OSError,),
    )
    assert ended.json["error"]["code"] == "deadline_passed"
    assert time.monotonic() - accepted_at < 8 + LEASE + SECONDS / 2
    labelled(world)
    assert world.get(f"/v1/predictions/{done}").json["status"] == "succeeded"
    eventually(lambda: blobs(world) & {late, done}, SECONDS, "their pictures are gone", operator.not_)
    for key in waiting:
        assert world.service.ask("DELETE", f"/v1/predictions/{key}").status == 200
    ready(world, 200)
    eventually(lambda: blobs(world), SECONDS, "all pictures are gone", operator.not_)
    assert (world.state / "data" / BALLAST).exists()
    assert world.service.post("free", CAT, ASYNC).status == 202
    world.end(signal.SIGTERM)
    assert disk(world)["orphans"] == 0
    assert not (world.state / "data" / BALLAST).exists()
    log = world.log.read_text()
    assert log.count("the storage takes no new work") <= 4, "once an outage and life, not once a request"
    assert "Traceback" not in log
    world.close()


def test_03_a_database_that_cannot_be_written_to_is_told_and_heals(begin: Begin) -> None:
    if shutil.which("strace") is None:
        lacking("strace is not installed: apt-get install strace")
    world = begin(*SETTINGS)
    key = world.service.post("premium", CAT, ASYNC).json["id"]
    with unwritable(world):
        told = ready(world, 503).json
        assert (told["status"], told["code"]) == ("no new work", "storage_unavailable")
        for _ in range(10):
            answer = world.service.post("premium", CAT, ASYNC)
            assert (answer.status, answer.json["code"]) == (503, "storage_unavailable")
        assert world.get(f"/v1/predictions/{key}").json["status"] == "queued"
    ready(world, 200)
    assert world.service.ask("DELETE", f"/v1/predictions/{key}").json["status"] == "canceled"
    assert world.service.post("premium", CAT, ASYNC).status == 202
    log = world.log.read_text()
    assert log.count("the storage takes no new work") == 1
    assert "answered 503" not in log
    world.end(signal.SIGTERM)
    assert disk(world)["orphans"] == 0
