"""Event streams: their form, what keeps them alive, what ends them, how many there may be."""

from __future__ import annotations

import asyncio
import operator
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.http import connections, listener, routes, streams
from server.http.descriptors import Shares
from server.http.public.event_stream import EventStream, event
from server.http.streams import Streams
from server.problems import Problem
from tests.events import Event, Stream, opened
from tests.server.http import raw
from tests.server.http.http_site import ANSWER_SECONDS, Site, assert_problem, running
from tests.waiting import eventually

PATH = "/ticks"
MOST = 4


class Ticks(EventStream):
    """Tells each reader the present number; ``text`` makes an event longer."""

    now, text, last = 0, "", 1 << 30
    open: set[Ticks] = set()  # noqa: RUF012 (of the one site of each test, which clears it)
    _seen = -1

    async def get(self) -> None:
        if self.begin():
            self.open.add(self)
            self.nudge()

    def unseen(self) -> bytes:
        if self._seen == Ticks.now:
            return b""
        self._seen = Ticks.now
        self.over = self._seen >= Ticks.last
        return event("tick", [Ticks.now, Ticks.text], str(Ticks.now))

    def left(self) -> None:
        self.open.discard(self)


class TickingSite:
    """A site with the ticks among its routes."""

    def __init__(self, site: Site) -> None:
        self.site, self.port = site, site.port

    def tick(self, to: int | None = None) -> None:
        """Let the number be the next one, or this one, and tell everybody."""

        def tell() -> None:
            Ticks.now = Ticks.now + 1 if to is None else to
            for stream in list(Ticks.open):
                stream.nudge()

        self.site.call(tell)

    def streams(self) -> int:
        """How many are open."""
        return self.site.call(lambda: self.site.services.streams.count)


@pytest.fixture
def ticking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TickingSite]:
    monkeypatch.setattr(routes, "PUBLIC", {PATH: Ticks, **routes.PUBLIC})
    for name, value in (("now", 0), ("text", ""), ("last", 1 << 30), ("open", set())):
        monkeypatch.setattr(Ticks, name, value)
    with running(tmp_path) as site:
        yield TickingSite(site)
        eventually(lambda: site.call(lambda: len(Ticks.open)), ANSWER_SECONDS, "all have left", operator.not_)
        eventually(lambda: len(site.services.underway), ANSWER_SECONDS, "no request is under way", operator.not_)
        eventually(lambda: site.call(lambda: site.services.streams.count), ANSWER_SECONDS, "none is", operator.not_)


def following(ticking: TickingSite, held: ExitStack, source: str = "127.0.0.1") -> Stream:
    return held.enter_context(opened(ticking.port, PATH, source=source))


def test_events_come_as_they_happen_and_the_last_one_ends_the_stream(ticking: TickingSite) -> None:
    with opened(ticking.port, PATH) as stream:
        assert stream.status == 200
        wanted = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        assert wanted.items() <= stream.headers.items()
        assert stream.next() == Event("tick", [0, ""], "0")
        assert stream.retry == 1000
        ticking.tick()
        assert stream.next() == Event("tick", [1, ""], "1")
        Ticks.last = 2
        ticking.tick()
        assert stream.next() == Event("tick", [2, ""], "2")
        assert stream.next() is None


def test_an_event_is_one_line_of_json_whatever_it_contains() -> None:
    assert event("a", {"text": "x\ny\r\nz\u2028"}, "7") == b'id: 7\nevent: a\ndata: {"text":"x\\ny\\r\\nz\\u2028"}\n\n'


def test_a_quiet_stream_gets_comments(ticking: TickingSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "QUIET_SECONDS", 0.05)
    with opened(ticking.port, PATH) as one, opened(ticking.port, PATH) as other:
        for stream in (one, other):
            assert stream.next()
            stream.until_comment()
            stream.until_comment()


def test_the_request_is_counted_when_the_stream_opens(ticking: TickingSite) -> None:
    with opened(ticking.port, PATH) as stream:
        stream.next()
        told = ticking.site.internal.get("/metrics").body.decode().splitlines()
        assert "tierserve_event_streams_open 1.0" in told
        assert f'tierserve_http_requests_total{{method="GET",route="{PATH}",status="200"}} 1.0' in told
    eventually(ticking.streams, ANSWER_SECONDS, "it is closed", operator.not_)
    told = ticking.site.internal.get("/metrics").body.decode().splitlines()
    assert "tierserve_event_streams_open 0.0" in told
    assert f'tierserve_http_requests_total{{method="GET",route="{PATH}",status="200"}} 1.0' in told


def test_a_head_has_no_stream(ticking: TickingSite) -> None:
    answer = ticking.site.ask("HEAD", PATH)
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, "text/event-stream", b"")
    assert not {"Content-Length", "Etag", "Transfer-Encoding"} & answer.headers.keys()
    assert ticking.streams() == 0


def test_a_server_that_stops_ends_all_streams_with_a_hint(ticking: TickingSite) -> None:
    with ExitStack() as held:
        readers = [following(ticking, held) for _ in range(3)]
        for one in readers:
            one.next()
        ticking.site.call(ticking.site.services.streams.drain)
        for one in readers:
            (last,) = one.rest()
            assert (last.name, last.id, one.retry) == ("drain", "", 500)
            assert "open the stream again" in last.data["detail"]
        late = following(ticking, held)
        assert [found.name for found in late.rest()] == ["tick", "drain"]


def test_a_slow_reader_gets_the_newest_state_only_and_costs_little_memory(ticking: TickingSite) -> None:
    Ticks.text = "x" * 100_000
    with opened(ticking.port, PATH) as stream:
        for _ in range(100):
            ticking.tick()
        buffered = ticking.site.call(lambda: max(len(one._iostream._write_buffer) for one in Ticks.open))
        assert buffered <= 110_000
        Ticks.last = 100
        seen = [found.data[0] for found in stream.rest()]
    assert seen == sorted(set(seen))
    assert seen[-1] == 100
    assert len(seen) < 60


def test_a_reader_that_takes_nothing_is_closed(ticking: TickingSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TAKING_SECONDS", 0.3)
    monkeypatch.setattr(listener, "LOOK_SECONDS", 0.1)
    Ticks.text = "x" * 10_000_000
    with opened(ticking.port, PATH):
        eventually(ticking.streams, ANSWER_SECONDS, "it is closed", operator.not_)


def test_a_slow_reader_does_not_keep_a_server_from_stopping(ticking: TickingSite) -> None:
    Ticks.text = "x" * 10_000_000
    with opened(ticking.port, PATH):
        ticking.site.call(ticking.site.services.streams.drain)
        assert len(ticking.site.services.underway) == 0
        assert ticking.streams() == 1, "it counts until its connection is closed"


def test_what_readers_leave_is_bounded_and_the_slowest_is_closed(
    ticking: TickingSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "UNSENT_BYTES", 25_000_000)
    Ticks.text = "x" * 10_000_000
    with ExitStack() as held:
        slow = [following(ticking, held) for _ in range(3)]
        eventually(ticking.streams, ANSWER_SECONDS, "the first one is closed", lambda count: count == 2)
        quick = following(ticking, held)
        assert quick.next()
        assert slow[-1].next()


def test_the_connection_ends_with_the_stream(ticking: TickingSite) -> None:
    Ticks.last = 0
    with ticking.site.connected() as connection:
        connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = raw.rest(connection)
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.endswith(b"\r\n0\r\n\r\n")


def test_who_hangs_up_leaves(ticking: TickingSite) -> None:
    with opened(ticking.port, PATH) as stream:
        stream.next()
        assert ticking.streams() == 1
    eventually(ticking.streams, ANSWER_SECONDS, "it has left", operator.not_)


def test_who_hangs_up_at_once_costs_nothing(ticking: TickingSite, caplog: pytest.LogCaptureFixture) -> None:
    request = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def ask_and_reset() -> None:
        with ticking.site.connected() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(request)

    def paused() -> None:
        """While the event loop does nothing, the request and the end of its connection come together."""
        for _ in range(20):
            ask_and_reset()

    ticking.site.call(paused)
    assert ticking.site.get("/healthz").status == 200
    eventually(ticking.streams, ANSWER_SECONDS, "none is open", operator.not_)
    assert not caplog.records


def test_who_sends_more_on_a_stream_is_closed(ticking: TickingSite) -> None:
    with ticking.site.connected() as connection:
        request = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        connection.sendall(request)
        assert connection.recv(65536)
        connection.sendall(request)
        eventually(ticking.streams, ANSWER_SECONDS, "it is closed", operator.not_)


@pytest.fixture
def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TickingSite]:
    """A site with few connections and few streams."""
    few = Shares(public=MOST, streams=MOST, internal=MOST, lingering=1)
    monkeypatch.setattr(routes, "shares", lambda: few)
    monkeypatch.setattr("server.http.services.shares", lambda: few)
    monkeypatch.setattr(listener, "FRESH_SECONDS", -1.0)
    monkeypatch.setattr(routes, "PUBLIC", {PATH: Ticks, **routes.PUBLIC})
    with running(tmp_path) as site:
        yield TickingSite(site)


def test_more_streams_than_there_may_be_are_refused_with_the_numbers(narrow: TickingSite) -> None:
    with ExitStack() as held:
        for _ in range(MOST):
            following(narrow, held).next()
        answer = following(narrow, held).answer
        assert_problem(answer, 503, "too_many_streams")
        assert (answer.json["open_streams"], answer.json["limit_streams"]) == (MOST, MOST)
        assert answer.headers["Retry-After"] == "5"
    eventually(narrow.streams, ANSWER_SECONDS, "they have left", operator.not_)
    with opened(narrow.port, PATH) as stream:
        assert stream.next()


def test_one_address_gets_a_part_of_the_streams() -> None:
    assert [Streams(most).most_of_one for most in (10, 640, 5120)] == [10, 64, 512]


class Silent:
    """A stream that nobody reads."""

    def comment(self) -> None: ...

    def drain(self) -> None: ...

    def break_off(self) -> None: ...


def test_the_streams_of_one_address_leave_room_for_those_of_others() -> None:
    async def fill() -> None:
        found = Streams(1000)
        mine = [Silent() for _ in range(found.most_of_one)]
        for one in mine:
            found.enter(one, "192.0.2.1/32")
        with pytest.raises(Problem) as refused:
            found.enter(Silent(), "192.0.2.1/32")
        assert refused.value.body["limit_streams"] == 100
        found.enter(Silent(), "192.0.2.2/32")
        found.leave(mine[0])
        found.leave(mine[0])
        assert found.count == 100
        found.enter(mine[0], "192.0.2.1/32")

    asyncio.run(fill())


def test_streams_take_no_room_from_requests_and_a_flood_closes_none(narrow: TickingSite) -> None:
    with ExitStack() as held:
        readers = [following(narrow, held) for _ in range(MOST)]
        for one in readers:
            one.next()
        flood = [held.enter_context(socket.create_connection(("127.0.0.1", narrow.port))) for _ in range(3 * MOST)]
        assert narrow.site.get("/healthz").status == 200
        narrow.tick(7)
        assert [one.next() for one in readers] == [Event("tick", [7, ""], "7")] * MOST
        assert len(flood) == 3 * MOST
