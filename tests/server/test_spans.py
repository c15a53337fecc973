"""Spans: of which traces, whose children, and of what time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.queue import Prediction, Status
from server.spans import Span, Spans
from server.traces import Trace

TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "", sampled=True)
ENDED = Prediction(
    id="p1",
    tier="free",
    model="flowers@1",
    status=Status.SUCCEEDED,
    images=2,
    size=1000,
    top_k=5,
    priority=0,
    turn=0,
    owner="anna",
    fingerprint=None,
    accepted_at=100.0,
    deadline_at=700.0,
    started_at=103.0,
    completed_at=104.0,
    attempts=1,
    predict_ms=250.0,
    trace=TRACE.traceparent,
    request_id="mine",
)


class Kept:
    """A sink that keeps what comes."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def add(self, span: Span) -> None:
        self.spans.append(span)

    def close(self) -> None:
        pass


def of(prediction: Prediction) -> list[Span]:
    kept = Kept()
    Spans(kept, 1.0).prediction(prediction)
    return kept.spans


def test_a_prediction_waits_and_is_worked_on_as_parts_of_its_request() -> None:
    queue, predict = of(ENDED)
    assert (queue.name, queue.begin, queue.end) == ("queue", 100.0, 103.0)
    assert (predict.name, predict.begin, predict.end) == ("predict", 103.75, 104.0)
    assert {span.trace.trace_id for span in (queue, predict)} == {TRACE.trace_id}
    assert {span.trace.parent_id for span in (queue, predict)} == {TRACE.span_id}
    assert queue.trace.span_id != predict.trace.span_id
    assert (
        queue.attributes
        == predict.attributes
        == {
            "tierserve.tier": "free",
            "tierserve.model": "flowers@1",
            "tierserve.images": 2,
            "tierserve.attempts": 1,
            "tierserve.request_id": "mine",
        }
    )
    assert not queue.error + predict.error
    assert not queue.serves


def test_no_span_ends_before_it_begins() -> None:
    odd = replace(ENDED, started_at=99.0, predict_ms=60_000.0)
    assert [(span.begin, span.end) for span in of(odd)] == [(100.0, 100.0), (99.0, 104.0)]


def test_a_prediction_whose_pictures_all_failed_tells_the_code() -> None:
    failed = replace(ENDED, status=Status.FAILED, error={"code": "image_broken", "detail": "no JPEG"})
    assert [span.error for span in of(failed)] == ["", "image_broken"]


@pytest.mark.parametrize(
    "other",
    [
        {"trace": None},
        {"trace": replace(TRACE, sampled=False).traceparent},
        {"completed_at": None, "status": Status.QUEUED},
    ],
)
def test_what_is_not_sampled_and_what_has_not_ended_has_no_span(other: dict[str, object]) -> None:
    assert of(replace(ENDED, **other)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(("status", "error"), [(200, ""), (429, ""), (503, "503")])
def test_a_request_tells_its_route_and_not_its_path(status: int, error: str) -> None:
    kept = Kept()
    Spans(kept).request(TRACE, "POST", "/hf/{tier}", status, 1.0, 2.0, tier="free", code="")
    (span,) = kept.spans
    told: dict[str, str | int] = {"http.request.method": "POST", "http.route": "/hf/{tier}"}
    told |= {"http.response.status_code": status}
    assert span == Span(TRACE, "POST /hf/{tier}", 1.0, 2.0, {**told, "tierserve.tier": "free"}, error, serves=True)


def test_the_ratio_decides_of_what_begins_here() -> None:
    draws = iter([0.0, 0.09, 0.1, 0.99])
    spans = Spans(Kept(), 0.1, lambda: next(draws))
    assert [spans.sample() for _ in range(4)] == [True, True, False, False]
    assert not Spans(None, 1.0).sample()
    assert Spans(Kept(), 1.0).on
    assert not Spans().on
