"""The worker's desk: how much the worker asks for, what it sends when, and when it ends."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from model.desk import Desk
from model.messages import Lease, News
from model.terms import AHEAD_MOST, BATCH_GATHER_SECONDS, GATHER_SECONDS, HELD_MOST, UNSETTLED_MOST, Terms
from tests.waiting import eventually

TERMS = Terms(idle=30, max_predictions=1000, max_pixels=1000)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lease(number: int) -> Lease:
    return Lease(id=f"p{number}", token=f"t{number}", top_k=5, pictures=(memoryview(b"picture"),))


def result(one: Lease, milliseconds: float = 5.0) -> dict[str, Any]:
    return {"id": one.id, "token": one.token, "model": "m@0", "results": [], "predict_ms": milliseconds}


def arrived(*numbers: int) -> News:
    return News(leases=[lease(number) for number in numbers])


def ids(message: dict[str, Any]) -> list[str]:
    return [one["id"] for one in message.get("completions", ())]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(clock: Clock) -> Desk:
    made = Desk(TERMS, clock)
    assert made.open() == {"renew": [], "credits": 1}
    return made


def begin(desk: Desk) -> Lease:
    taken = desk.next()
    assert taken is not None
    return taken


def work_off(desk: Desk, count: int, milliseconds: float) -> None:
    for number in range(1000, 1000 + count):
        desk.take(arrived(number))
        desk.finish(result(begin(desk), milliseconds))
        assert ids(desk.message()) == [f"p{number}"]
        desk.take(News(outcomes=[(f"p{number}", "accepted")]))


def test_an_unknown_speed_takes_one_and_the_next_with_its_result(desk: Desk) -> None:
    desk.take(arrived(1))
    assert desk.message() == {}
    one = begin(desk)
    assert desk.message() == {}
    desk.finish(result(one, 1000))
    assert desk.message() == {"completions": [result(one, 1000)], "credits": 1}


def test_a_fast_model_takes_ahead(desk: Desk) -> None:
    work_off(desk, 30, 5.0)
    assert desk._granted == AHEAD_MOST


def test_what_is_ahead_is_refilled_when_half_is_used_up(desk: Desk) -> None:
    work_off(desk, 30, 5.0)
    desk.take(arrived(*range(AHEAD_MOST)))
    sent = []
    for _ in range(5):
        one = begin(desk)
        sent.append(desk.message())
        desk.finish(result(one))
    assert sent[:4] == [{}, {}, {}, {}]
    assert sent[4]["credits"] == 5
    assert ids(sent[4]) == ["p0", "p1", "p2", "p3"]


def test_a_slow_model_takes_nothing_that_another_could_begin(desk: Desk) -> None:
    work_off(desk, 30, 5000.0)
    desk.take(arrived(1))
    assert desk.message() == {}
    one = begin(desk)
    assert desk.message() == {}
    desk.finish(result(one, 5000.0))
    assert desk.message()["credits"] == 1


def test_results_are_gathered_while_more_waits_but_not_for_long(desk: Desk, clock: Clock) -> None:
    work_off(desk, 30, 5.0)
    desk.take(arrived(*range(AHEAD_MOST)))
    desk.finish(result(begin(desk)))
    assert desk.message() == {}
    clock.now += GATHER_SECONDS
    assert ids(desk.message()) == ["p0"]


def test_the_results_before_the_last_are_sent_when_it_begins(desk: Desk) -> None:
    desk.take(arrived(1, 2))
    desk.finish(result(begin(desk)))
    assert desk.message() == {}
    begin(desk)
    assert ids(desk.message()) == ["p1"]


def test_a_gathered_result_is_sent_although_the_next_picture_takes_long() -> None:
    desk = Desk(TERMS)
    desk.open()
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(desk.wait)
        desk.take(arrived(1, 2, 3))
        desk.finish(result(begin(desk)))
        assert told.result(timeout=10)
        assert ids(desk.message()) == ["p1"]


def test_it_ends_when_idle_for_long(desk: Desk, clock: Clock) -> None:
    clock.now = 30
    assert desk.next() is None
    assert desk.done == "idle for 30 s"


def test_a_worker_without_a_server_or_with_a_result_to_send_again_is_not_idle(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.desk.AGAIN_SECONDS", 0.01)
    desk = Desk(TERMS, clock)
    clock.now = 31
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(desk.next)
        eventually(taken.running, 20, "it waits")
        desk.open()
        desk.take(arrived(1))
        one = taken.result(timeout=10)
        assert one is not None
        desk.finish(result(one))
        desk.message()
        desk.take(News(outcomes=[("p1", "again")]))
        taken = pool.submit(desk.next)
        clock.now = 100
        eventually(taken.running, 20, "it waits")
        assert desk.done == ""
        assert desk.message()["completions"]
        assert taken.result(timeout=10) is None
    assert desk.done == "idle for 30 s"


def test_it_ends_after_its_last_prediction_with_every_result_handed_in(clock: Clock) -> None:
    desk = Desk(Terms(idle=30, max_predictions=3, max_pixels=1), clock)
    desk.open()
    granted = 1
    for number in range(3):
        desk.take(arrived(number))
        desk.finish(result(begin(desk)))
        granted += desk.message().get("credits", 0)
    assert granted == 3
    assert desk.next() is None
    assert desk.done == "made 3 predictions"
    desk.close()
    assert desk.message() == {"renew": [["p0", "t0"], ["p1", "t1"], ["p2", "t2"]]}
    desk.take(News(outcomes=[("p0", "accepted"), ("p1", "unknown"), ("p2", "final")], lost=[]))
    assert desk.is_clear()


def test_told_to_go_it_hands_back_at_once_what_it_has_not_begun(desk: Desk) -> None:
    desk.take(arrived(1, 2))
    begun = begin(desk)
    desk.stop("told to", hand_back=True)
    assert desk.message() == {"release": [["p2", "t2"]]}
    desk.take(arrived(3))  # this picture was under way
    assert desk.message() == {"release": [["p3", "t3"]]}
    desk.finish(result(begun))
    assert ids(desk.message()) == ["p1"]
    assert desk.next() is None


def test_told_to_retire_it_finishes_what_it_has_begun_and_hands_back_the_rest(desk: Desk) -> None:
    desk.take(arrived(1, 2))
    begun = begin(desk)
    desk.take(News(retire="lent quota went back to premium"))
    assert desk.message() == {"release": [["p2", "t2"]]}
    desk.take(arrived(3))  # this picture was under way
    assert desk.message() == {"release": [["p3", "t3"]]}
    desk.finish(result(begun))
    last = desk.message()
    assert (ids(last), list(last)) == (["p1"], ["completions"])  # it asks for nothing more
    assert desk.next() is None
    assert desk.done == "lent quota went back to premium"
    desk.lose()
    assert "credits" not in desk.open()


def test_what_is_cut_short_is_handed_back(desk: Desk) -> None:
    desk.take(arrived(1))
    begin(desk)
    desk.close()
    assert desk.message() == {"release": [["p1", "t1"]]}


def test_a_worker_that_ends_hears_the_answer_to_its_last_renewal(desk: Desk) -> None:
    desk.close()
    desk.take(News(lost=[]))  # the answer to an earlier one
    assert desk.message() == {"renew": []}
    assert not desk.is_clear()
    desk.take(News(lost=[]))
    assert desk.is_clear()
    assert desk.message() == {}


def test_leases_are_renewed_each_heartbeat(desk: Desk, clock: Clock) -> None:
    desk.take(News(renew=10))
    desk.take(arrived(1, 2))
    clock.now = 9
    assert desk.message() == {}
    clock.now = 10
    assert desk.message() == {"renew": [["p1", "t1"], ["p2", "t2"]]}
    desk.take(News(lost=["p1"]))
    assert begin(desk).id == "p2"
    assert desk.message() == {}
    clock.now = 20
    assert desk.message() == {"renew": [["p2", "t2"]]}


def test_a_renewer_asleep_until_a_later_heartbeat_is_woken_for_an_earlier_one() -> None:
    desk = Desk(TERMS)
    desk.open()
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(desk.wait)
        eventually(told.running, 20, "the renewer waits")
        desk.take(News(renew=0.05))
        assert told.result(timeout=10)
        assert desk.message() == {"renew": []}


def test_without_outcomes_nothing_more_is_granted(desk: Desk) -> None:
    granted, number = 1, 0
    while granted:
        granted -= 1
        desk.take(arrived(number))
        number += 1
        desk.finish(result(begin(desk)))
        granted += desk.message().get("credits", 0)
    assert UNSETTLED_MOST <= number < 2 * UNSETTLED_MOST
    desk.take(News(outcomes=[(f"p{i}", "accepted") for i in range(number)]))
    assert desk.message() == {"credits": AHEAD_MOST}


def test_a_result_that_the_server_finds_invalid_is_logged_and_ends_nothing(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.take(arrived(1))
    desk.finish(result(begin(desk)))
    desk.message()
    desk.take(News(outcomes=[("p1", "invalid"), ("p2", "invalid")]))
    assert caplog.messages == ["the server found the result of p1 invalid"]
    assert desk.done == ""


def test_nothing_is_sent_without_a_channel_and_all_of_it_with_the_next(desk: Desk) -> None:
    desk.take(arrived(1, 2))
    desk.lose()
    one = begin(desk)
    desk.finish(result(one))
    assert desk.message() == {}
    message = desk.open()
    assert message["renew"] == [["p1", "t1"], ["p2", "t2"]]
    assert ids(message) == ["p1"]
    assert desk.message() == {}


@pytest.fixture
def batching(clock: Clock) -> Desk:
    return Desk(replace(TERMS, batch=4), clock)


def test_a_worker_of_batches_asks_for_two_of_them_and_anew_when_one_is_done(batching: Desk) -> None:
    assert batching.open()["credits"] == 8
    batching.take(arrived(*range(8)))
    begun = [begin(batching) for _ in range(8)]
    for one in begun[:3]:
        batching.finish(result(one))
    assert batching.message() == {}
    batching.finish(result(begun[3]))
    message = batching.message()
    assert message["credits"] == 4
    assert ids(message) == ["p0", "p1", "p2", "p3"]


def test_results_of_a_batch_wait_for_others_but_only_for_a_moment(batching: Desk, clock: Clock) -> None:
    batching.open()
    batching.take(arrived(*range(8)))
    batching.finish(result(begin(batching)))
    assert batching.message() == {}
    clock.now += BATCH_GATHER_SECONDS
    assert ids(batching.message()) == ["p0"]


def test_the_last_results_of_batches_are_sent_at_once(batching: Desk) -> None:
    batching.open()
    batching.take(arrived(1, 2))
    for one in [begin(batching), begin(batching)]:
        batching.finish(result(one))
    assert ids(batching.message()) == ["p1", "p2"]


def test_the_largest_batches_ask_for_what_a_worker_may_hold(clock: Clock) -> None:
    desk = Desk(replace(TERMS, batch=256), clock)
    assert desk.open()["credits"] == HELD_MOST


def test_a_worker_whose_batch_takes_long_is_not_idle(batching: Desk, clock: Clock) -> None:
    batching.open()
    batching.take(arrived(1))
    one = begin(batching)
    clock.now = 31
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(batching.next)  # as the feeder, while the batch is classified
        eventually(taken.running, 20, "it waits")
        assert batching.done == ""
        batching.finish(result(one))
        clock.now = 100
        assert taken.result(timeout=10) is None
    assert batching.done == "idle for 30 s"
