"""A request is sent again when the server says so or is lost, as the same request, and for a bounded time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest

from tests.answers import Step, answer, hang_up, succeeded
from tierserve import AsyncClient, Client, Outcome, Prediction, Refused, Unreachable, sending

FULL = {"code": "queue_full", "detail": "64 wait", "limit_queued": 64}


class Server:
    """Answers each picture with the next step, and the last step again and again, and GET with no tiers."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.asked: list[tuple[Message, float]] = []
        parent = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                parent.asked.append((self.headers, time.monotonic()))
                (parent.steps.pop(0) if len(parent.steps) > 1 else parent.steps[0])(self)

            def do_GET(self) -> None:
                answer(200, {"tiers": []})(self)

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(sending, "LEAST_RETRY", 0.05)
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield made
    finally:
        made.http.shutdown()
        thread.join(10)
        made.http.server_close()


def classified(server: Server, patience: float = 20.0) -> Prediction:
    """The prediction of a picture, asked for by a client that has heard of the server before."""
    with Client(server.url, "", patience=patience) as client:
        client.tiers()
        return client.classify(b"x")


def keys(server: Server) -> set[str | None]:
    return {headers["Idempotency-Key"] for headers, _ in server.asked}


@pytest.mark.parametrize("code", [429, 503])
def test_what_says_when_to_come_back_is_asked_then_as_the_same_request(server: Server, code: int) -> None:
    server.steps = [answer(code, FULL, {"Retry-After": "1"})] * 2 + [answer(200, succeeded())]
    assert classified(server).status == "succeeded"
    times = [at for _, at in server.asked]
    assert all(1 <= later - sooner < 3 for sooner, later in pairwise(times))
    assert len(times) == 3
    assert len(keys(server)) == 1
    assert None not in keys(server)


def test_a_date_says_when_to_come_back_by_the_server_s_clock(server: Server) -> None:
    headers = {"Date": formatdate(1e9, usegmt=True), "Retry-After": formatdate(1e9 + 2, usegmt=True)}

    def step(handler: BaseHTTPRequestHandler) -> None:
        handler.date_time_string = lambda *_: headers["Date"]  # type: ignore[method-assign]
        answer(429, FULL, {"Retry-After": headers["Retry-After"]})(handler)

    server.steps = [step, answer(200, succeeded())]
    classified(server)
    (_, first), (_, second) = server.asked
    assert 2 <= second - first < 5


@pytest.mark.parametrize("given", [None, "soon", "3600", "-1"])
def test_what_does_not_say_so_or_says_much_later_is_an_error_at_once(server: Server, given: str | None) -> None:
    server.steps = [answer(429, FULL, {} if given is None else {"Retry-After": given})]
    with pytest.raises(Refused, match="queue_full: 64 wait") as refused:
        classified(server)
    assert refused.value.retry_after == (3600 if given == "3600" else None)
    assert refused.value.document["limit_queued"] == 64
    assert len(server.asked) == 1


@pytest.mark.parametrize("step", [hang_up, answer(502, b"<html>a proxy")], ids=["hangs up", "502"])
def test_a_lost_answer_is_asked_for_again_as_the_same_request(server: Server, step: Step) -> None:
    server.steps = [step, step, answer(200, succeeded())]
    assert classified(server).status == "succeeded"
    assert len(server.asked) >= 3
    assert len(keys(server)) == 1


@pytest.mark.parametrize(("step", "kind"), [(answer(503, FULL, {"Retry-After": "0"}), Refused), (hang_up, Unreachable)])
def test_patience_ends(server: Server, step: Step, kind: type[Exception]) -> None:
    server.steps = [step]
    began = time.monotonic()
    with pytest.raises(kind):
        classified(server, patience=0.5)
    assert time.monotonic() - began < 10
    assert len(server.asked) > 1


def test_of_many_the_patience_is_that_of_all_together(server: Server) -> None:
    turns = [answer(429, FULL, {"Retry-After": "0"}), answer(200, succeeded())]
    server.steps = [step for _ in range(30) for step in turns]

    async def ask() -> list[Outcome]:
        async with AsyncClient(server.url, "", patience=1.0) as client:
            await client.tiers()
            return [one async for one in client.map([b"x"] * 30, concurrency=2)]

    assert [one.error for one in asyncio.run(ask())] == [None] * 30
    assert len(keys(server)) == 30


def test_the_client_can_be_given_the_idempotency_key(server: Server) -> None:
    server.steps = [answer(200, succeeded())]
    with Client(server.url, "") as client:
        client.classify(b"x", idempotency_key="mine", cancel_after=90)
    ((headers, _),) = server.asked
    assert (headers["Idempotency-Key"], headers["Cancel-After"], headers["Prefer"]) == ("mine", "90s", "wait=10")
