"""The worker's line against a real WebSocket server: when it opens another channel, and what it sends again."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from model.channel import Dismissed, RequestRejected
from model.desk import Completion, Desk
from model.line import Line, ServerGone
from model.terms import Terms
from tests.model.channel_server import Visit, frame, serving
from tests.waiting import eventually

TERMS = Terms(idle=30, max_predictions=100, max_pixels=1000)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The test's server logs every connection that is cut."""
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)


class At:
    """A worker without a model: its line runs in a thread, and the test is its main thread."""

    def __init__(self, url: str, terms: Terms = TERMS) -> None:
        self.desk = Desk(terms)
        self.line = Line(url, lambda: "secret", self.desk)
        self.error: Exception | None = None
        self.receiver = threading.Thread(target=self._receive)
        self.renewer = threading.Thread(target=self._renew)

    def _receive(self) -> None:
        try:
            self.line.run()
        except (Dismissed, RequestRejected, ServerGone) as error:
            self.error = error
            self.desk.stop("failed", hand_back=True)

    def _renew(self) -> None:
        while self.desk.wait():
            self.line.tell()

    def work(self) -> str:
        """Take the next prediction and finish it; return its id."""
        lease = self.desk.next()
        assert lease is not None
        self.line.tell()
        self.desk.finish(completion(lease.id, lease.token))
        self.line.tell()
        return lease.id

    def end(self) -> None:
        """End as a worker does."""
        self.desk.close()
        self.line.tell()
        self.receiver.join(20)
        assert not self.receiver.is_alive()


def completion(id_: str, token: str) -> Completion:
    return {"id": id_, "token": token, "model": "m@0", "results": [], "predict_ms": 5.0}


@contextmanager
def at(url: str, terms: Terms = TERMS) -> Iterator[At]:
    worker = At(url, terms)
    worker.receiver.start()
    worker.renewer.start()
    try:
        yield worker
    finally:
        worker.line.hang_up()
        worker.desk.end()
        worker.receiver.join(20)
        worker.renewer.join(20)
        assert not worker.receiver.is_alive()


def ids(completions: list[Completion]) -> list[str]:
    return [one["id"] for one in completions]


@pytest.mark.parametrize(("code", "kind"), [(4400, RequestRejected), (4401, Dismissed), (4410, Dismissed)])
def test_these_close_codes_end_the_worker(code: int, kind: type[Exception]) -> None:
    with serving(lambda visit: visit.close(code, "the words")) as server, at(server.url) as worker:
        worker.receiver.join(20)
        assert isinstance(worker.error, kind)
        assert str(worker.error) == "the words"


@pytest.mark.parametrize("code", [1001, 1011, 1013, 4408, 4409])
def test_after_other_close_codes_the_worker_opens_another_channel(code: int) -> None:
    with serving(lambda visit: visit.close(code), lambda visit: visit.first) as server, at(server.url):
        assert server.result() is None
        assert server.result() == {"renew": [], "credits": 1, "token": "secret"}


def test_an_outage_and_errors_of_the_server_are_outlasted() -> None:
    with serving((503, "stopping"), (500, "?"), lambda visit: visit.first) as server, at(server.url):
        assert server.result() == {"renew": [], "credits": 1, "token": "secret"}


def test_a_server_that_stays_away_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.line.GONE_SECONDS", 0.2)
    with at("http://127.0.0.1:1") as worker:
        worker.receiver.join(20)
        assert isinstance(worker.error, ServerGone)
        assert "127.0.0.1:1" in str(worker.error)


def test_a_token_that_cannot_be_read_is_tried_again() -> None:
    tokens = iter([OSError("gone for a moment"), "first", "second"])

    def token() -> str:
        one = next(tokens)
        if isinstance(one, OSError):
            raise one
        return str(one)

    with serving(lambda visit: visit.first) as server:
        line = Line(server.url, token, Desk(TERMS))
        thread = threading.Thread(target=line.run)
        thread.start()
        try:
            assert server.result() == {"renew": [], "credits": 1, "token": "second"}
        finally:
            line.hang_up()
            thread.join(20)


def test_a_cut_in_the_middle_of_a_frame_leaves_nothing_on_the_desk() -> None:
    def half(visit: Visit) -> None:
        visit.send_half(frame(["p1"], b"x" * 100_000))

    with serving(half, lambda visit: visit.first) as server, at(server.url):
        server.result()
        assert server.result() == {"renew": [], "credits": 1, "token": "secret"}


def test_a_result_without_an_outcome_is_sent_again_and_the_take_up_names_what_is_held() -> None:
    def first(visit: Visit) -> None:
        visit.give("p1", "p2")
        visit.hear_of("completions")
        visit.cut()

    def second(visit: Visit) -> dict[str, Any]:
        visit.say(outcomes=[["p1", "duplicate"]], lost=[])
        return visit.first

    with serving(first, second) as server, at(server.url) as worker:
        assert worker.work() == "p1"
        server.result()
        again = server.result()
        assert isinstance(again, dict)
        assert again["renew"] == [["p1", "t-p1"], ["p2", "t-p2"]]
        assert ids(again["completions"]) == ["p1"]
        assert worker.work() == "p2"


def test_what_is_finished_while_the_server_is_away_is_brought_later() -> None:
    def first(visit: Visit) -> None:
        visit.give("p1")
        visit.end()

    with serving(first, (503, "stopping"), lambda visit: visit.first) as server, at(server.url) as worker:
        lease = worker.desk.next()
        assert lease is not None
        assert worker.line._channel is not None
        worker.line._channel._socket.shutdown(socket.SHUT_RDWR)
        worker.desk.finish(completion("p1", "t-p1"))
        worker.line.tell()
        server.result()
        again = server.result()
        assert isinstance(again, dict)
        assert ids(again["completions"]) == ["p1"]


def test_a_lost_prediction_is_not_begun() -> None:
    def visit(visit: Visit) -> None:
        visit.say(renew=0.05)
        visit.give("p1", "p2")
        assert ["p1", "t-p1"] in visit.hear_of("renew")
        visit.say(lost=["p1"])
        visit.end()

    with serving(visit) as server, at(server.url) as worker:
        eventually(lambda: worker.desk._taken, 20, "both are there")
        eventually(lambda: len(worker.desk._held), 20, "one is lost", enough=lambda held: held == 1)
        assert worker.work() == "p2"


def test_outcomes_that_are_held_back_come_before_the_worker_ends() -> None:
    def visit(visit: Visit) -> object:
        visit.give("p1")
        (done,) = visit.hear_of("completions")
        visit.hear_of("renew")
        visit.say(outcomes=[[done["id"], "accepted"]], lost=[])
        return visit.end()

    with serving(visit) as server, at(server.url) as worker:
        worker.work()
        worker.end()
        assert server.result() == 1000


def test_a_worker_that_ends_hands_back_also_what_comes_late() -> None:
    def visit(visit: Visit) -> object:
        visit.give("p1", "p2")
        assert visit.hear_of("release") == [["p1", "t-p1"], ["p2", "t-p2"]]
        visit.give("p3")
        assert visit.hear_of("release") == [["p3", "t-p3"]]
        visit.say(lost=[])
        return visit.end()

    with serving(visit) as server, at(server.url) as worker:
        eventually(lambda: worker.desk._taken, 20, "both are there")
        worker.end()
        assert server.result() == 1000


def test_a_server_that_stops_gets_the_results_and_the_worker_goes_to_another() -> None:
    def stops(visit: Visit) -> object:
        visit.give("p1")
        visit.say(stopping=True)
        (done,) = visit.hear_of("completions")
        visit.hear_of("renew")
        visit.say(outcomes=[[done["id"], "accepted"]], lost=[])
        return visit.end()

    with serving(stops, lambda visit: visit.first) as server, at(server.url) as worker:
        eventually(lambda: worker.desk._stopping, 20, "it has heard that the server stops")
        worker.work()
        assert server.result() == 1000
        assert server.result() == {"renew": [], "credits": 1, "token": "secret"}


def test_a_server_that_stops_is_left_at_once_when_nothing_is_open() -> None:
    def stops(visit: Visit) -> object:
        visit.say(stopping=True)
        return visit.end()

    with serving(stops, lambda visit: visit.first) as server, at(server.url):
        assert server.result() == 1000
        server.result()


def test_a_result_that_could_not_be_kept_now_is_sent_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.desk.AGAIN_SECONDS", 0.05)

    def visit(visit: Visit) -> list[str]:
        visit.give("p1")
        first = visit.hear_of("completions")
        visit.say(outcomes=[["p1", "again"]])
        second = visit.hear_of("completions")
        return ids(first + second)

    with serving(visit) as server, at(server.url) as worker:
        worker.work()
        assert server.result() == ["p1", "p1"]


def test_a_server_that_answers_no_renewal_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.line.REPLY_SECONDS", 0.2)

    def mute(visit: Visit) -> object:
        visit.say(renew=0.05)
        return visit.end(mute=True)

    with serving(mute, lambda visit: visit.first) as server, at(server.url):
        server.result()
        server.result()
