"""Who is woken, by what and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from concurrent.futures import Future
from contextlib import ExitStack

import pytest

from server.http import wakeups as module
from server.http.wakeups import Lookout, Wakeups
from server.queue import Anything, Available, ConnectionLost, DatabaseClosed, Ended, Moved, Prediction, Status

AVAILABLE = Available("free")
ENDED = Prediction("p", "free", "m", Status.SUCCEEDED, 1, 1, 5, 0, "anonymous", None, 1.0, 2.0)


def test_who_waits_first_is_woken_first() -> None:
    wakeups = Wakeups()
    with wakeups.for_work("free") as first, wakeups.for_work("free") as second:
        wakeups.hear([AVAILABLE])
        assert (first.woken, second.woken) == (True, False)
        wakeups.hear([AVAILABLE])
        assert (first.woken, second.woken) == (True, True)


def test_who_was_woken_goes_to_the_end_of_the_line() -> None:
    async def story() -> None:
        wakeups = Wakeups()
        with wakeups.for_work("free") as first, wakeups.for_work("free") as second:
            wakeups.hear([AVAILABLE])
            assert await first.wait(0)
            assert not first.woken
            wakeups.hear([AVAILABLE])
            assert (first.woken, second.woken) == (False, True)

    asyncio.run(story())


def test_a_wake_up_that_was_not_acted_upon_goes_to_the_next() -> None:
    wakeups = Wakeups()
    with ExitStack() as first_one, wakeups.for_work("free") as second, wakeups.for_work("free") as third:
        first = first_one.enter_context(wakeups.for_work("free"))
        wakeups.hear([AVAILABLE, AVAILABLE])
        assert (second.woken, third.woken, first.woken) == (True, True, False)
        wakeups.hear([AVAILABLE])
        assert first.woken
    with ExitStack() as first_one, ExitStack() as rest:
        first = first_one.enter_context(wakeups.for_work("free"))
        second = rest.enter_context(wakeups.for_work("free"))
        wakeups.hear([AVAILABLE])
        assert (first.woken, second.woken) == (True, False)
        first_one.close()
        assert second.woken


def test_one_that_was_acted_upon_does_not() -> None:
    async def story() -> None:
        wakeups = Wakeups()
        with ExitStack() as first_one, wakeups.for_work("free") as second:
            first_one.enter_context(wakeups.for_work("free"))
            wakeups.hear([AVAILABLE])  # wakes ``second``, which was there first
            assert await second.wait(0)
            first_one.close()
            assert not second.woken

    asyncio.run(story())


def test_who_leaves_by_an_error_is_not_woken_any_more() -> None:
    wakeups = Wakeups()
    with pytest.raises(ValueError, match="failed"), wakeups.for_work("free"):
        raise ValueError("failed")
    with wakeups.for_work("free") as alive:
        wakeups.hear([AVAILABLE])
        assert alive.woken


def test_a_wake_up_of_who_leaves_by_an_error_goes_to_the_next() -> None:
    wakeups = Wakeups()
    with ExitStack() as rest:
        with pytest.raises(ValueError, match="failed"), wakeups.for_work("free") as first:
            second = rest.enter_context(wakeups.for_work("free"))
            wakeups.hear([AVAILABLE])
            assert (first.woken, second.woken) == (True, False)
            raise ValueError("failed")
        assert second.woken


def test_nothing_is_left_of_those_who_have_left() -> None:
    wakeups = Wakeups()
    with pytest.raises(ValueError, match="failed"), wakeups.for_work("free"), wakeups.for_end("p"):
        wakeups.hear([AVAILABLE, Ended(ENDED)])
        raise ValueError("failed")
    assert (wakeups._for_work, wakeups._for_end) == ({}, {})


def test_news_of_one_tier_wake_nobody_of_another() -> None:
    wakeups = Wakeups()
    with wakeups.for_work("premium") as waiter, wakeups.for_end("p") as reader:
        wakeups.hear([AVAILABLE])
        assert not waiter.woken
        assert not reader.woken


def test_an_end_wakes_all_who_wait_for_it_with_what_is_known_of_it() -> None:
    wakeups = Wakeups()
    with wakeups.for_end("p") as one, wakeups.for_end("p") as two, wakeups.for_end("q") as other:
        wakeups.hear([Moved("p", "free", Status.LEASED)])
        assert not one.woken
        wakeups.hear([Ended(ENDED), Moved("p", "free", Status.SUCCEEDED)])
        assert (one.woken, two.woken, other.woken) == (True, True, False)
        assert (one.ended, two.ended, other.ended) == (ENDED, ENDED, None)


def test_anything_wakes_everybody_once() -> None:
    async def story() -> None:
        wakeups = Wakeups()
        with wakeups.for_work("free") as one, wakeups.for_work("premium") as two, wakeups.for_end("p") as three:
            wakeups.hear([Anything()])
            assert [await waiter.wait(0) for waiter in (one, two, three)] == [True] * 3
            assert [await waiter.wait(0) for waiter in (one, two, three)] == [False] * 3

    asyncio.run(story())


def test_a_server_that_drains_lets_nobody_wait() -> None:
    wakeups = Wakeups()
    with wakeups.for_work("free") as one, wakeups.for_end("p") as two:
        assert not wakeups.draining
        wakeups.drain()
        assert wakeups.draining
        assert (one.woken, two.woken) == (True, True)
    with wakeups.for_work("free") as late, wakeups.for_end("q") as later:
        assert (late.woken, later.woken) == (True, True)


def test_a_wait_ends_when_it_is_woken_and_not_before() -> None:
    async def story() -> None:
        wakeups = Wakeups()
        with wakeups.for_work("free") as waiter:
            assert not await waiter.wait(0.01)
            waiting = asyncio.create_task(waiter.wait(60))
            await asyncio.sleep(0)  # lets the task run until it waits
            assert not waiting.done()
            wakeups.hear([AVAILABLE])
            assert await waiting
            assert not waiter.woken

    asyncio.run(story())


def test_one_look_serves_all_who_wait_and_one_that_fails_is_followed_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    looks: list[Collection[str]] = []

    def ask(ids: Collection[str]) -> Future[set[str]]:
        looks.append(ids)
        if len(looks) == 1:
            raise DatabaseClosed("closed")
        answer: Future[set[str]] = Future()
        if len(looks) == 2:
            answer.set_exception(ConnectionLost("the connection broke"))
        else:
            answer.set_result({"p", "r"})
        return answer

    async def story() -> None:
        wakeups = Wakeups()
        Lookout(wakeups, ask).start()
        with wakeups.for_end("p") as one, wakeups.for_end("p") as two, wakeups.for_end("q") as other:
            assert [await waiter.wait(10) for waiter in (one, two)] == [True] * 2
            assert not other.woken
        assert {tuple(ids) for ids in looks} == {("p", "q")}
        asked = len(looks)
        await asyncio.sleep(0.02)
        assert len(looks) == asked, "nobody waits, so nothing is asked"

    asyncio.run(story())


def test_a_queue_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    answers: list[Future[set[str]]] = []

    def ask(_: Collection[str]) -> Future[set[str]]:
        answers.append(Future())
        return answers[-1]

    async def story() -> None:
        wakeups = Wakeups()
        Lookout(wakeups, ask).start()
        with wakeups.for_end("p") as waiter:
            assert not await waiter.wait(0.02)
            assert len(answers) == 1
            answers[0].set_result({"p"})
            assert await waiter.wait(10)

    asyncio.run(story())
