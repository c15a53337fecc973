"""``tierserve classify`` follows what is not done at once, over lost streams, drains and refusals, to its end."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tierserve import client
from tierserve.client import Client, ClientError

Step = Callable[[BaseHTTPRequestHandler], None]
QUEUED = {"id": "p", "position": 2, "ahead": 1, "eta_seconds": None, "reason": ""}
ENDED = {"id": "p", "status": "succeeded", "results": []}


class Server:
    """Answers a picture with 202, and each request for events with the next step."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.asked: list[tuple[str, Message, float]] = []
        parent = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                parent.asked.append((self.path, self.headers, time.monotonic()))
                self.rfile.read(int(self.headers["Content-Length"]))
                answer(202, {"id": "p", "status": "queued", "urls": {"get": "/v1/predictions/p"}})(self)

            def do_GET(self) -> None:
                parent.asked.append((self.path, self.headers, time.monotonic()))
                parent.steps.pop(0)(self)

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    @property
    def ids(self) -> list[str | None]:
        """The last ids that the requests for events had."""
        return [headers["Last-Event-ID"] for path, headers, _ in self.asked if path.endswith("/events")]


def answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Step:
    """An answer that is no stream."""

    def step(handler: BaseHTTPRequestHandler) -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(text)

    return step


def stream(text: str, then: Callable[[], object] = lambda: None) -> Step:
    """An event stream that breaks off."""

    def step(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(text.encode())
        handler.wfile.flush()
        then()

    return step


def event(name: str, data: Any, key: str = "") -> str:
    """The text of an event."""
    return (f"id: {key}\n" if key else "") + f"event: {name}\ndata: {json.dumps(data)}\n\n"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield made
    finally:
        made.http.shutdown()
        thread.join(10)
        made.http.server_close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LEAST_RETRY", 0.05)


def classified(server: Server, folder: Path, key: str = "") -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """The answer of a picture, and what was told before."""
    picture = folder / "cat.jpg"
    picture.write_bytes(b"x")
    told: list[tuple[str, Any]] = []

    async def ask() -> dict[str, Any]:
        return await Client(server.url, key).classify("free", picture, 1, lambda name, data: told.append((name, data)))

    return asyncio.run(ask()), told


def test_each_event_is_told_until_the_final_one_is_the_answer(server: Server, tmp_path: Path) -> None:
    leased = {"id": "p", "attempts": 1}
    server.steps = [
        stream(
            "retry: 1000\n\n"
            + event("queued", QUEUED, "1")
            + ": \n\n"
            + event("leased", leased, "2")
            + event("succeeded", ENDED, "3")
        )
    ]
    found, told = classified(server, tmp_path, "tsk_a_b")
    assert found == ENDED
    assert told == [("sending", {}), ("queued", QUEUED), ("leased", leased)]
    assert [path for path, _, _ in server.asked] == ["/img-classification/free?top_k=1", "/v1/predictions/p/events"]
    (_, posted, _), (_, asked, _) = server.asked
    assert (posted["Prefer"], asked["Accept"], asked["Last-Event-ID"]) == ("wait=1", "text/event-stream", None)
    assert [headers["X-API-Key"] for headers in (posted, asked)] == ["tsk_a_b"] * 2


def test_a_lost_stream_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.steps = [
        stream("retry: 10\n\n" + event("queued", QUEUED, "1") + "id: 2\nevent: leased\ndata: {"),
        stream(""),
        stream(event("leased", {"id": "p", "attempts": 1}, "2")),
        stream(event("succeeded", ENDED, "3")),
    ]
    found, told = classified(server, tmp_path)
    assert found == ENDED
    assert [name for name, _ in told] == ["sending", "queued", "leased"]
    assert server.ids == [None, "1", "1", "2"]


def test_a_server_that_stops_says_when_to_come_back(server: Server, tmp_path: Path) -> None:
    drain = "retry: 300\n" + event("drain", {"detail": "this server stops"})
    server.steps = [stream(event("queued", QUEUED, "1") + drain), stream(event("succeeded", ENDED, "2"))]
    assert classified(server, tmp_path)[0] == ENDED
    assert server.ids == [None, "1"]
    (_, _, first), (_, _, second) = server.asked[1:]
    assert 0.3 <= second - first < 3


def test_a_stream_on_which_nothing_comes_is_opened_anew(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "STREAM_SECONDS", 0.3)
    tested = threading.Event()
    server.steps = [
        stream(event("queued", QUEUED, "1"), lambda: tested.wait(20)),
        stream(event("succeeded", ENDED, "2")),
    ]
    assert classified(server, tmp_path)[0] == ENDED
    tested.set()
    assert server.ids == [None, "1"]


def test_a_server_without_room_for_a_stream_is_asked_again(server: Server, tmp_path: Path) -> None:
    full = {"code": "too_many_streams", "detail": "64 are open"}
    server.steps = [
        answer(503, full, {"Retry-After": "1"}),
        answer(502, b"<html>a proxy without a server</html>"),
        stream(event("succeeded", ENDED, "1")),
    ]
    assert classified(server, tmp_path)[0] == ENDED
    (_, _, first), (_, _, second) = server.asked[1:3]
    assert second - first >= 1


@pytest.mark.parametrize("status", [401, 404, 410, 503])
def test_a_problem_instead_of_events_is_the_answer(server: Server, tmp_path: Path, status: int) -> None:
    problem = {"code": "some_code", "detail": "some words"}
    server.steps = [stream(event("queued", QUEUED, "1")), answer(status, problem)]
    assert classified(server, tmp_path)[0] == problem


@pytest.mark.parametrize(
    "step",
    [
        answer(200, b"<html>another service</html>"),
        answer(502, b""),
        answer(204, b""),
        lambda handler: handler.connection.close(),
    ],
    ids=["HTML", "502", "204", "hangs up"],
)
def test_a_server_that_stays_lost_is_told(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    monkeypatch.setattr(client, "LOST_SECONDS", 0.3)
    server.steps = [stream(event("queued", QUEUED, "1")), *[step] * 100]
    with pytest.raises(ClientError, match=r"no server answers at http://127.0.0.1:\d+ \(.+\)"):
        classified(server, tmp_path)
    assert len(server.asked) > 3


@pytest.mark.parametrize(
    "text", [event("queued", 1).replace("1", "{"), event("succeeded", 1).replace("1", "[" * 100_000)]
)
def test_events_that_cannot_be_read_are_told(server: Server, tmp_path: Path, text: str) -> None:
    server.steps = [stream(text)]
    with pytest.raises(ClientError, match="an event cannot be read"):
        classified(server, tmp_path)
