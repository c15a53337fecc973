"""Requests with an idempotency key: a repeated one is the same prediction, and no key tells or blocks anything."""

from __future__ import annotations

import pytest

from server.blobs import BlobError
from server.intake.submissions import HASHED_AT_ONCE_BYTES
from tests.server.http.http_site import ANSWER_SECONDS, ASYNC, PICTURE, PLACES, Site, assert_problem, waits


def test_the_same_key_is_the_same_prediction(site: Site) -> None:
    first, second = (site.submit(headers={"Idempotency-Key": "a"}) for _ in range(2))
    assert (first.status, second.status) == (202, 202)
    assert first.json == second.json
    assert waits(site) == 1
    assert list(site.blobs.older_than(-3600)) == [first.json["id"]]
    in_premium = site.submit("premium", {"Idempotency-Key": "a"})
    assert (in_premium.json["id"], in_premium.json["tier"]) == (first.json["id"], "free")
    assert waits(site, "premium") == 0


@pytest.mark.parametrize(
    ("body", "query"), [(PICTURE + b"x", ""), (PICTURE, "?top_k=2"), (PICTURE, "?function_to_apply=none")]
)
def test_the_same_key_with_another_request_neither_tells_nor_blocks(site: Site, body: bytes, query: str) -> None:
    first = site.submit(headers={"Idempotency-Key": "b"})
    other = site.post("free", body, {"Idempotency-Key": "b", **ASYNC}, query)
    assert other.status == 202
    assert first.json["id"] not in other.body.decode()
    assert site.post("free", body, {"Idempotency-Key": "b", **ASYNC}, query).json["id"] == other.json["id"]
    assert site.submit(headers={"Idempotency-Key": "b"}).json["id"] == first.json["id"]


@pytest.mark.parametrize("body", [PICTURE, PICTURE + bytes(2 * HASHED_AT_ONCE_BYTES)])
def test_a_repeated_request_stores_no_pictures_again(site: Site, body: bytes) -> None:
    key = {"Idempotency-Key": "a"}
    first = site.submit(headers=key, body=body)
    site.blobs.failure = BlobError("nothing may be stored")
    again = site.submit(headers=key, body=body)
    assert (again.status, again.json["id"]) == (202, first.json["id"])
    assert_problem(site.submit(headers=key, body=body + b"x"), 503, "storage_unavailable")


def test_a_repeated_request_is_answered_when_the_queue_is_full(small: Site) -> None:
    key = {"Idempotency-Key": "a"}
    first = small.submit(headers=key)
    assert [small.submit().status for _ in range(PLACES - 1)] == [202] * (PLACES - 1)
    for tier in ("free", "premium"):
        again = small.submit(tier, headers=key)
        assert (again.status, again.json["id"]) == (202, first.json["id"])
    assert_problem(small.submit(headers=key, body=PICTURE + b"x"), 429, "queue_full")
    assert_problem(small.submit(headers={"Idempotency-Key": "new"}), 429, "queue_full")
    early = small.ask("POST", "/img-classification/free", None, {"Content-Length": "1000", "Idempotency-Key": "new"})
    assert_problem(early, 429, "queue_full")
    assert len(list(small.blobs.older_than(-3600))) == waits(small) == PLACES


def test_equal_requests_at_the_same_moment_are_one_prediction(site: Site) -> None:
    key = {"Idempotency-Key": "a"}
    asking = [site.callers.submit(site.submit, headers=key) for _ in range(8)]
    answers = [one.result(ANSWER_SECONDS) for one in asking]
    assert {answer.status for answer in answers} == {202}
    assert len({answer.json["id"] for answer in answers}) == 1
    site.idle()
    assert list(site.blobs.older_than(-3600)) == [answers[0].json["id"]]
