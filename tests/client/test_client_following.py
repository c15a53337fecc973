"""A client follows what is not done at once, over lost streams, drains and refusals, to its end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.answers import Step, answer, event, hang_up, prediction, stream, succeeded
from tierserve import AsyncClient, Event, Place, Prediction, Refused, TierserveError, Unreachable, following, sending

QUEUED = {"id": "p", "position": 2, "ahead": 1, "eta_seconds": None, "reason": ""}
LEASED = {"id": "p", "attempts": 1}
ENDED = succeeded()


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
                answer(202, prediction(queue=None))(self)

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
        return [headers["Last-Event-ID"] for path, headers, _ in self.asked if "/events?" in path]


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
    for module in (sending, following):
        monkeypatch.setattr(module, "LEAST_RETRY", 0.05)


def classified(server: Server, key: str = "", patience: float = 20.0) -> tuple[Prediction, list[Event]]:
    """The prediction of a picture, and what was told before."""
    told: list[Event] = []

    async def ask() -> Prediction:
        async with AsyncClient(server.url, key, patience=patience) as client:
            made = await client.submit(b"x", top_k=1)
            async for event in client.stream(made):
                told.append(event)
        ended = told.pop().prediction
        assert ended is not None
        return ended

    return asyncio.run(ask()), told


def test_each_event_is_told_until_the_final_one(server: Server) -> None:
    server.steps = [
        stream(
            "retry: 1000\n\n"
            + event("queued", QUEUED, "1")
            + ": \n\n"
            + event("something else", {}, "2")
            + event("leased", LEASED, "2")
            + event("succeeded", ENDED, "3")
        )
    ]
    found, told = classified(server, "tsk_a_b")
    assert found == Prediction.of(ENDED)
    assert told == [Event("queued", "p", Place(2, 1, "", None)), Event("leased", "p", attempts=1)]
    (path, posted, _), (followed, asked, _) = server.asked
    assert (path, followed) == ("/img-classification/free?top_k=1", "/v1/predictions/events?id=p")
    assert (posted["Prefer"], asked["Accept"], asked["Last-Event-ID"]) == ("respond-async", "text/event-stream", None)
    assert [headers["X-API-Key"] for headers in (posted, asked)] == ["tsk_a_b"] * 2


def test_a_lost_stream_goes_on_where_it_was(server: Server) -> None:
    server.steps = [
        stream("retry: 10\n\n" + event("queued", QUEUED, "1") + "id: 2\nevent: leased\ndata: {"),
        stream(""),
        stream(event("leased", LEASED, "2")),
        stream(event("succeeded", ENDED, "3")),
    ]
    found, told = classified(server)
    assert found.status == "succeeded"
    assert [one.name for one in told] == ["queued", "leased"]
    assert server.ids == [None, "1", "1", "2"]


def test_a_server_that_stops_says_when_to_come_back(server: Server) -> None:
    drain = "retry: 300\n" + event("drain", {"detail": "this server stops"})
    server.steps = [stream(event("queued", QUEUED, "1") + drain), stream(event("succeeded", ENDED, "2"))]
    assert classified(server)[0].status == "succeeded"
    assert server.ids == [None, "1"]
    (_, _, first), (_, _, second) = server.asked[1:]
    assert 0.3 <= second - first < 3


def test_a_stream_on_which_nothing_comes_is_opened_anew(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SILENT_SECONDS", 0.3)
    tested = threading.Event()
    server.steps = [
        stream(event("queued", QUEUED, "1"), lambda: tested.wait(20)),
        stream(event("succeeded", ENDED, "2")),
    ]
    assert classified(server)[0].status == "succeeded"
    tested.set()
    assert server.ids == [None, "1"]


def test_a_server_without_room_for_a_stream_is_asked_again(server: Server) -> None:
    full = {"code": "too_many_streams", "detail": "64 are open"}
    server.steps = [
        answer(503, full, {"Retry-After": "1"}),
        answer(502, b"<html>a proxy without a server</html>"),
        stream(event("succeeded", ENDED, "1")),
    ]
    assert classified(server)[0].status == "succeeded"
    (_, _, first), (_, _, second) = server.asked[1:3]
    assert second - first >= 1


@pytest.mark.parametrize("status", [401, 404, 410, 503])
def test_a_problem_instead_of_events_is_an_error(server: Server, status: int) -> None:
    problem = {"code": "some_code", "detail": "some words"}
    server.steps = [stream(event("queued", QUEUED, "1")), answer(status, problem)]
    with pytest.raises(Refused, match="some_code: some words") as refused:
        classified(server)
    assert refused.value.status == status


@pytest.mark.parametrize(("code", "status"), [("result_gone", 410), ("no_such_prediction", 404)])
def test_a_prediction_that_is_gone_is_refused(server: Server, code: str, status: int) -> None:
    server.steps = [stream(event("gone", {"id": "p", "code": code, "detail": "some words"}, "1"))]
    with pytest.raises(Refused, match=f"{code}: some words") as refused:
        classified(server)
    assert refused.value.status == status


@pytest.mark.parametrize("step", [answer(502, b""), stream("retry: 10\n\n"), hang_up], ids=["502", "empty", "hangs up"])
def test_a_server_that_stays_lost_is_told(server: Server, step: Step) -> None:
    server.steps = [stream(event("queued", QUEUED, "1")), *[step] * 100]
    with pytest.raises(Unreachable):
        classified(server, patience=0.5)
    assert len(server.asked) > 3


@pytest.mark.parametrize("status", [200, 204, 302, 404])
def test_what_is_no_answer_of_a_server_is_told_at_once(server: Server, status: int) -> None:
    server.steps = [answer(status, b"<html>another service</html>" if status != 204 else b"")]
    with pytest.raises(TierserveError, match=rf"answered {status}, and not as a server of tierserve does"):
        classified(server)


@pytest.mark.parametrize(
    "text",
    [
        event("queued", 1).replace("1", "{"),
        event("succeeded", 1).replace("1", "[" * 100_000),
        event("queued", []),
        event("succeeded", {"id": "p"}),
    ],
)
def test_events_that_cannot_be_read_are_told(server: Server, text: str) -> None:
    server.steps = [stream(text)]
    with pytest.raises(TierserveError, match="did not answer as one of tierserve does"):
        classified(server)
