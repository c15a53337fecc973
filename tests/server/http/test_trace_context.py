"""The id and the trace of a request go with its prediction to the worker, and into the logs."""

from __future__ import annotations

import logging

import pytest

from server.traces import trace_id_of
from tests.server.http.http_site import ANSWER_SECONDS, ASYNC, LABELS, PICTURE, Site, completion
from tests.waiting import eventually

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MINE = {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-Id": "mine"}


@pytest.mark.parametrize("headers", [ASYNC, {}])
def test_a_worker_learns_the_id_and_the_trace_of_a_request(site: Site, headers: dict[str, str]) -> None:
    token = site.job()
    site.worker(token)
    answer = site.callers.submit(site.post, "free", PICTURE, {**headers, **MINE})
    (one,) = site.lease(token)
    assert one["request_id"] == "mine"
    version, trace_id, span_id, flags = one["trace"].split("-")
    assert (version, trace_id, flags) == ("00", TRACE, "01")
    assert span_id != SPAN
    assert site.complete(one, token) == ["accepted"]
    assert answer.result(ANSWER_SECONDS).headers["X-Request-Id"] == "mine"
    kept = site.queue.get(one["id"]).result(ANSWER_SECONDS)
    assert kept is not None
    assert (kept.trace, kept.request_id) == (one["trace"], "mine")


def test_a_request_without_a_trace_or_with_a_broken_one_gets_its_own(site: Site) -> None:
    token = site.job()
    ids = [site.submit(headers=headers).headers["X-Request-Id"] for headers in ({}, {"traceparent": "00-x-y-01"})]
    leased = site.lease(token, most=2)
    assert [one["request_id"] for one in leased] == ids
    assert len({trace_id_of(one["trace"]) for one in leased} - {""}) == 2
    assert {one["trace"][-2:] for one in leased} == {"00"}


def test_a_failed_attempt_is_logged_with_the_trace(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    token = site.job()
    site.submit(headers=MINE)
    (one,) = site.lease(token)
    with caplog.at_level(logging.WARNING, "server.http.services"):
        assert site.hand_in([completion(one, 2 * LABELS)], token) == ["invalid"]
        said = f"an attempt at {one['id']} failed: its worker handed in what cannot be its result: it has 2 results"
        eventually(lambda: caplog.messages, ANSWER_SECONDS, "it is logged", lambda lines: said in "".join(lines))
    assert f"(request mine, trace {TRACE})" in "".join(caplog.messages)
