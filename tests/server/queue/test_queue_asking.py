"""Answers of the queue that are shared by those who ask at the same time."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

from server.queue import Recent, RecentByName


class Asked:
    """Answers when it is let to; remembers what it was asked."""

    def __init__(self) -> None:
        self.futures: list[Future[int]] = []
        self.names: list[str] = []

    def __call__(self, name: str = "") -> Future[int]:
        self.names.append(name)
        self.futures.append(Future())
        return self.futures[-1]


def test_a_slow_answer_is_shared_however_long_it_takes() -> None:
    async def ask() -> None:
        asked = Asked()
        recent = Recent(asked, -1.0)
        waiting = [asyncio.ensure_future(recent.get()) for _ in range(100)]
        await asyncio.sleep(0)
        assert len(asked.futures) == 1
        asked.futures[0].set_result(7)
        assert set(await asyncio.gather(*waiting)) == {7}
        last = asyncio.ensure_future(recent.get())
        await asyncio.sleep(0)
        assert len(asked.futures) == 2, "an answer that has come and aged is asked for anew"
        asked.futures[1].set_result(8)
        assert await last == 8

    asyncio.run(ask())


def test_the_latest_answer_is_not_waited_for() -> None:
    asked = Asked()
    recent = Recent(asked, -1.0)
    assert recent.latest(60) is None
    assert recent.latest(60) is None
    assert len(asked.futures) == 1, "it is asked once until the answer comes"
    asked.futures[0].set_result(7)
    assert recent.latest(60) == 7
    asked.futures[1].set_exception(ValueError("away"))
    assert recent.latest(60) == 7, "the last one that came"
    assert len(asked.futures) == 3
    assert recent.latest(0) is None, "it is too old"


def test_each_name_has_an_answer_of_its_own() -> None:
    async def ask() -> None:
        asked = Asked()
        recent = RecentByName(asked, 60.0)
        waiting = [asyncio.ensure_future(recent.get(name)) for name in ("free", "premium", "free")]
        await asyncio.sleep(0)
        assert asked.names == ["free", "premium"]
        for value, future in enumerate(asked.futures):
            future.set_result(value)
        assert await asyncio.gather(*waiting) == [0, 1, 0]

    asyncio.run(ask())
