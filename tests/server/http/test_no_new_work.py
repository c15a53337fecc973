"""While the storage takes no new work, requests for it are refused before their bodies, and all else goes on."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from server.blobs import BlobError, BlobsFull
from server.disk import Disk
from server.intake.storage_check import StorageCheck
from server.queue import ConnectionLost, DiskFull, QueueError, ReadOnly
from server.settings.live import Live
from server.settings.sources import Files
from tests.server.http.http_site import PICTURE, Site, assert_problem, running
from tests.service.test_metrics import Series
from tests.waiting import eventually

ROOM = 2048
OVER = BlobsFull("cannot keep the picture: QuotaExceeded (403)", "bucket_full")
FAILURES = [
    (OVER, None, "bucket_full"),
    (BlobError("cannot keep the picture: no answer in time"), None, "storage_unavailable"),
    (None, ReadOnly("the database can only be read"), "read_only"),
    (None, DiskFull("the database's disk refused"), "disk_full"),
    (None, ConnectionLost("the database is away"), "storage_unavailable"),
]


def early(site: Site, length: int = 100) -> bytes:
    """The answer to a head whose body has not been sent."""
    return site.exchange(
        b"POST /img-classification/free HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % length
    )


@pytest.mark.parametrize(("blobs", "writes", "code"), FAILURES)
def test_an_outage_is_told_once_and_heals_by_itself(
    site: Site, blobs: BlobError | None, writes: QueueError | None, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kept = site.submit().headers["Location"]
    site.services.storage_check.step()
    assert site.get("/readyz").status == 200
    site.blobs.failure, site.database.write_failure = blobs, writes
    assert_problem(site.submit(), 503, code)
    for _ in range(5):
        site.services.storage_check.step()
        assert_problem(site.submit(), 503, code)
    assert b" 503 " in early(site).partition(b"\r\n")[0]
    told = site.get("/readyz")
    assert (told.status, told.json["status"], told.json["code"]) == (503, "no new work", code)
    assert told.json["detail"] == str(blobs or writes)
    assert site.get("/readyz?for=reading").status == 200
    assert Series(site.internal.get("/metrics").body).of("storage_accepting") == 0
    assert site.get(kept).json["status"] == "queued", "what was accepted can be read"
    site.blobs.failure = site.database.write_failure = None
    site.services.storage_check.step()
    assert site.get("/readyz").status == 200
    assert Series(site.internal.get("/metrics").body).of("storage_accepting") == 1
    assert site.submit().status == 202
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == [f"the storage takes no new work ({code}): {blobs or writes}", "the storage takes new work again"]


def test_one_write_that_failed_is_no_outage(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.blobs.failure = BlobError("cannot keep the picture: no answer in time")
    assert_problem(site.submit(), 503, "storage_unavailable")
    site.blobs.failure = None
    site.services.storage_check.step()
    assert site.get("/readyz").status == 200
    assert not caplog.records


def test_storage_that_works_is_not_written_to(site: Site) -> None:
    site.submit()
    site.services.storage_check.step()
    site.blobs.failure = BlobError("nobody should have tried")
    for _ in range(3):
        site.services.storage_check.step()
    assert site.get("/readyz").status == 200


def test_an_upload_that_would_take_the_reserve_is_refused_by_its_head(site: Site, tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    storage_check = StorageCheck(site.queue, site.blobs, [disk], disk)
    storage_check.step()
    room = disk.look()
    site.services.gate._storage_check = storage_check
    storage_check._rooms[disk] = replace(room, free=room.reserve + 10_000)
    assert b" 503 " in early(site, 20_000).partition(b"\r\n")[0]
    assert b'"code": "disk_full"' in early(site, 20_000)
    assert b'"reserve_bytes": %d' % room.reserve in early(site, 20_000)
    assert site.submit().status == 202


@pytest.fixture
def narrow(tmp_path: Path) -> Live:
    """Settings with room for ``ROOM`` bytes of pictures in the tier free."""
    limits = {"images": 1, "imageBytes": 1024, "queueBytes": ROOM}
    return Live(Files(overrides=tuple(f"tiers.free.limits.{key}={value}" for key, value in limits.items())))


def test_the_bytes_of_a_tier_are_a_limit_of_its_own(narrow: Live, tmp_path: Path) -> None:
    with running(tmp_path, narrow) as site:
        size = len(PICTURE) + 8
        accepted = [site.submit().json["id"] for _ in range(ROOM // size)]
        refused = site.submit()
        assert_problem(refused, 429, "queue_bytes_full")
        assert 1 <= int(refused.headers["Retry-After"]) <= 5
        assert (refused.json["queue_bytes"], refused.json["limit_queue_bytes"]) == (size * len(accepted), ROOM)
        assert b" 429 " in early(site, 1000).partition(b"\r\n")[0]
        assert len(list(site.blobs.older_than(-3600))) == len(accepted)
        assert site.submit("premium").status == 202
        metrics = Series(site.internal.get("/metrics").body)
        assert metrics.of("queue_bytes", tier="free") == size * len(accepted)
        assert metrics.of("queue_bytes_limit", tier="free") == ROOM
        assert site.get("/v1/tiers").json["tiers"][0]["queue_bytes"] == size * len(accepted)
        site.ask("DELETE", f"/v1/predictions/{accepted[0]}")
        assert site.submit().status == 202


def test_pictures_go_at_every_end(site: Site) -> None:
    """Whoever ends it: a client, a worker, a deadline, or the end of the tier."""
    token = site.job()
    site.submit()
    (failing,) = site.lease(token)
    canceled, overdue, succeeded = (site.submit().json["id"] for _ in range(3))
    aborted = site.submit("premium").json["id"]
    site.ask("DELETE", f"/v1/predictions/{canceled}")
    site.queue.end_job("job", "exit code 1", attempts=1).result(20)
    (one,) = site.lease(token := site.job("other"))
    assert site.complete(one, token) == ["accepted"]
    site.queue.abort_tier("premium", "tier_removed", "gone").result(20)
    site.clock.advance(7200)
    site.queue.reclaim({"free": 3}).result(20)
    statuses = {site.get(f"/v1/predictions/{key}").json["status"] for key in (failing["id"], canceled, aborted)}
    assert statuses == {"failed", "canceled", "aborted"}
    ends = {site.get(f"/v1/predictions/{key}").json["status"] for key in (overdue, succeeded)}
    assert ends == {"succeeded", "aborted"}
    eventually(lambda: list(site.blobs.older_than(-3600)), 20, "all pictures are gone", lambda left: not left)
