"""Events are read as WHATWG's standard says, however the bytes are cut, and none grows without bound."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tierserve import events
from tierserve.events import Event, Events


def read(*chunks: bytes) -> list[Event]:
    reading = Events(1.0)
    return [event for chunk in chunks for event in reading.feed(chunk)]


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        # The examples of the standard.
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Event("message", "YHOO\n+2\n10")]),
        (b"data\n\ndata\ndata\n\ndata:", [Event("message", ""), Event("message", "\n")]),
        (b"data:test\n\ndata: test\n\n", [Event("message", "test")] * 2),
        (b"data:  first\n\n", [Event("message", " first")]),
        (b": comment\n\nevent: add\ndata: 1\n\nevent: add\n\n", [Event("add", "1")]),
        # What it leaves to the reader's care.
        (b"\xef\xbb\xbfdata: a\n\n", [Event("message", "a")]),
        (b"data: a\r\rdata: b\r\n\r\ndata: c\n\n", [Event("message", one) for one in "abc"]),
        (b"event: x\nother: y\ndata: \xff\n\n", [Event("x", "\ufffd")]),
        (b"data: not ended\n", []),
    ],
)
def test_a_stream_s_events(stream: bytes, found: list[Event]) -> None:
    assert read(stream) == found
    assert read(*(bytes([one]) for one in stream)) == found


texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=20)


@given(
    st.lists(st.tuples(texts.filter(bool), st.lists(texts, min_size=1, max_size=3)), max_size=4),
    st.sampled_from(["\n", "\r", "\r\n"]),
    st.integers(1, 7),
)
@example([("a", ["b"])], "\r\n", 1)
def test_what_was_written_is_read_however_it_is_cut(written: list[tuple[str, list[str]]], end: str, size: int) -> None:
    lines = [line for name, data in written for line in (f"event: {name}", *(f"data: {one}" for one in data), "")]
    stream = "".join(line + end for line in lines).encode()
    chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert read(*chunks) == [Event(name, "\n".join(data)) for name, data in written]


@given(st.lists(st.binary(max_size=30)))
def test_no_bytes_break_it(chunks: list[bytes]) -> None:
    assert all(isinstance(event, Event) for event in read(*chunks))


def test_the_last_id_and_the_pause_outlive_a_lost_connection() -> None:
    reading = Events(1.0)
    assert list(reading.feed(b"retry: 250\nid: 1\ndata: a\n\nid: 2\ndata: lost")) == [Event("message", "a")]
    assert (reading.last_id, reading.retry_seconds) == ("1", 0.25)
    reading.open()
    assert list(reading.feed(b"data: b\n\n")) == [Event("message", "b")]
    assert reading.last_id == "1"
    assert list(reading.feed(b"id: a\0b\nretry: -1\nretry: soon\ndata: c\n\nid\n\n")) == [Event("message", "c")]
    assert (reading.last_id, reading.retry_seconds) == ("", 0.25)


@pytest.mark.parametrize(
    "part", [b"x", b"data\n", b"data: " + b"x" * 1000 + b"\n"], ids=["line", "lines", "long lines"]
)
def test_an_event_without_an_end_is_refused(part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_CHARACTERS", 100_000)
    reading = Events(1.0)
    with pytest.raises(ValueError, match="more than 100000 characters"):
        for _ in range(600_000 // len(part)):
            list(reading.feed(part))


def test_the_largest_prediction_of_one_picture_is_read() -> None:
    labels = [{"label": "x" * 200, "score": 0.1}] * 100
    text = json.dumps({"results": [{"labels": labels}]}).encode()
    assert [json.loads(event.data)["results"][0]["labels"] for event in read(b"data: " + text + b"\n\n")] == [labels]
