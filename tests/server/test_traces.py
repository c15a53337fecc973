"""Trace contexts: what a valid traceparent is taken over from, and what begins a new trace."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.traces import Trace, trace_id_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OURS = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", True),
    ],
)
def test_a_valid_header_is_taken_over_with_a_span_of_ours(header: str, sampled: bool) -> None:
    trace = Trace.of(header, lambda: pytest.fail("the caller has decided"))
    assert (trace.trace_id, trace.parent_id, trace.sampled) == (TRACE, SPAN, sampled)
    assert trace.span_id not in (SPAN, "")
    assert trace.traceparent == f"00-{TRACE}-{trace.span_id}-0{int(sampled)}"
    assert trace_id_of(trace.traceparent) == TRACE


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
@pytest.mark.parametrize("sampled", [True, False])
def test_another_header_begins_a_new_trace(header: str | None, sampled: bool) -> None:
    trace = Trace.of(header, lambda: sampled)
    assert trace.trace_id != TRACE
    assert (trace.parent_id, trace.sampled) == ("", sampled)
    assert OURS.fullmatch(trace.traceparent)


@given(st.text(max_size=80) | st.from_regex(r"\A[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?\Z"))
def test_whatever_comes_what_goes_on_is_valid(header: str) -> None:
    trace = Trace.of(header, lambda: False)
    assert OURS.fullmatch(trace.traceparent)
    again = Trace.of(trace.traceparent, lambda: False)
    assert (again.trace_id, again.parent_id) == (trace.trace_id, trace.span_id)


def test_what_has_no_trace_has_no_id() -> None:
    assert trace_id_of(None) == trace_id_of("") == ""
