"""The log of predictions tells whose request each was, in the form that the server says."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from model import prediction_log
from model.messages import Lease

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ERROR = {"error": {"code": "image_broken", "detail": "this is no JPEG"}}
AT = 1_800_000_000.0


def lease(request_id: str = "mine", trace: str = f"00-{TRACE}-00f067aa0ba902b7-01") -> Lease:
    pictures = (memoryview(b"a"), memoryview(b"b"))
    return Lease("p1", "secret", 5, pictures, trace=trace, request_id=request_id)


def completion(*results: dict[str, Any]) -> dict[str, Any]:
    return {"id": "p1", "token": "secret", "model": "flowers@1", "results": list(results), "predict_ms": 6.103}


def written(caplog: pytest.LogCaptureFixture, form: str, one: Lease, *results: dict[str, Any]) -> list[str]:
    with caplog.at_level(logging.INFO, "model.predictions"):
        prediction_log.write(form, AT, one, completion(*results))
    return caplog.messages


def test_a_line_of_json_tells_what_was_done_for_whom(caplog: pytest.LogCaptureFixture) -> None:
    (line,) = written(caplog, "json", lease(), {"labels": []}, ERROR)
    assert json.loads(line) == {
        "time": "2027-01-15T08:00:00.000Z",
        "request_id": "mine",
        "trace_id": TRACE,
        "prediction": "p1",
        "model": "flowers@1",
        "images": 2,
        "failed": 1,
        "ms": 6.103,
        "code": "image_broken",
    }


def test_a_line_of_text_leaves_out_what_is_empty_and_quotes_what_is_odd(caplog: pytest.LogCaptureFixture) -> None:
    (line,) = written(caplog, "text", lease('x status=200 "', ""), {"labels": []})
    start = 'time=2027-01-15T08:00:00.000Z request_id="x status=200 \\""'
    assert line == f"{start} prediction=p1 model=flowers@1 images=2 ms=6.103"


@pytest.mark.parametrize("form", ["off", "", "xml"])
def test_nothing_is_written_in_another_form(caplog: pytest.LogCaptureFixture, form: str) -> None:
    assert written(caplog, form, lease(), {"labels": []}) == []
