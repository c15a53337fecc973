"""When storage fails, callers are told what to do, and nothing half-kept stays."""

from __future__ import annotations

import pytest

from server.blobs import BlobError
from server.queue import ConnectionLost, DatabaseBusy, DatabaseClosed, DiskFull, OutcomeUnknown, QueueError, ReadOnly
from tests.running import Answer
from tests.server.http.http_site import ANSWER_SECONDS, PICTURE, Site, assert_problem
from tests.waiting import eventually

AWAY = ConnectionLost("the connection broke")


def assert_come_back(answer: Answer, code: str, seconds: int) -> None:
    assert_problem(answer, 503, code)
    assert answer.headers["Retry-After"] == str(seconds)


@pytest.mark.parametrize(
    ("failure", "code", "seconds"),
    [
        (AWAY, "storage_unavailable", 5),
        (DiskFull("the disk refused"), "disk_full", 5),
        (ReadOnly("the disk refused"), "read_only", 5),
        (DatabaseBusy("too many operations wait"), "busy", 1),
    ],
)
def test_while_the_queue_cannot_be_asked_nobody_is_left_guessing(
    site: Site, failure: QueueError, code: str, seconds: int
) -> None:
    url, token = site.submit().headers["Location"], site.job()
    site.database.failure = failure
    for answer in (
        site.submit(),
        site.get(url),
        site.ask("DELETE", url),
        site.get("/v1/tiers"),
        site.refusal(token),
    ):
        assert_come_back(answer, code, seconds)
    site.database.failure = None
    assert site.get(url).json["status"] == "queued"


def test_a_picture_that_cannot_be_kept_makes_no_prediction(site: Site) -> None:
    site.blobs.failure = BlobError("cannot keep the picture: no space left on device")
    answer = site.submit()
    assert_come_back(answer, "storage_unavailable", 5)
    assert answer.json["detail"] == "nothing was kept: cannot keep the picture: no space left on device"
    assert site.queue.depths().result(ANSWER_SECONDS) == {}
    site.blobs.failure = None
    assert site.submit().status == 202


def test_a_row_that_cannot_be_kept_takes_its_picture_along(site: Site) -> None:
    site.database.write_failure = DiskFull("the disk refused")
    assert_come_back(site.submit(), "disk_full", 5)
    assert list(site.blobs.older_than(-3600)) == []


def test_where_the_commit_is_in_doubt_the_picture_stays(site: Site) -> None:
    site.database.write_failure = OutcomeUnknown("whether it was kept is not known")
    answer = site.submit()
    assert_come_back(answer, "outcome_unknown", 5)
    assert "Idempotency-Key" in answer.json["detail"]
    assert len(list(site.blobs.older_than(-3600))) == 1


def test_what_nobody_foresaw_tells_only_its_request(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.database.failure = DatabaseClosed("of no interest outside")
    answer = site.get("/v1/tiers")
    assert_problem(answer, 500, "internal_error")
    assert b"of no interest" not in answer.body
    (record,) = [record for record in caplog.records if record.exc_info]
    assert answer.json["request_id"] in record.getMessage()


def test_who_waits_while_the_queue_goes_away_knows_that_it_was_accepted(site: Site) -> None:
    asking = site.callers.submit(site.post, "free", PICTURE, {"Prefer": "wait=60"})
    eventually(lambda: site.queue.depths().result(ANSWER_SECONDS), ANSWER_SECONDS, "it is accepted")
    site.database.failure = AWAY
    site.call(site.services.wakeups.drain)
    answer = asking.result(ANSWER_SECONDS)
    assert (answer.status, answer.json["status"], answer.json["queue"]) == (202, "queued", None)
