"""Who is woken, and by what."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from concurrent.futures import Future

import pytest

from server.http import wakeups as module
from server.http.wakeups import Lookout, Wakeups
from server.queue import Anything, ConnectionLost, DatabaseClosed, Ended, Moved, Prediction, Status

ENDED = Prediction("p", "free", "m", Status.SUCCEEDED, 1, 1, 5, 0, 1, "anonymous", None, 1.0, 2.0)


def test_nothing_is_left_of_those_who_have_left() -> None:
    wakeups = Wakeups()
    with pytest.raises(ValueError, match="failed"), wakeups.for_end("p"):
        wakeups.hear([Ended(ENDED)])
        raise ValueError("failed")
    assert wakeups._for_end == {}


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
        with wakeups.for_end("p") as one, wakeups.for_end("q") as two:
            wakeups.hear([Anything()])
            assert [await waiter.wait(0) for waiter in (one, two)] == [True] * 2
            assert [await waiter.wait(0) for waiter in (one, two)] == [False] * 2

    asyncio.run(story())


def test_a_server_that_drains_lets_nobody_wait() -> None:
    wakeups = Wakeups()
    with wakeups.for_end("p") as one, wakeups.for_end("q") as two:
        assert not wakeups.draining
        wakeups.drain()
        assert wakeups.draining
        assert (one.woken, two.woken) == (True, True)
    with wakeups.for_end("p") as late, wakeups.for_end("q") as later:
        assert (late.woken, later.woken) == (True, True)


def test_a_wait_ends_when_it_is_woken_and_not_before() -> None:
    async def story() -> None:
        wakeups = Wakeups()
        with wakeups.for_end("p") as waiter:
            assert not await waiter.wait(0.01)
            waiting = asyncio.create_task(waiter.wait(60))
            await asyncio.sleep(0)  # lets the task run until it waits
            assert not waiting.done()
            wakeups.ended(["p"])
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
