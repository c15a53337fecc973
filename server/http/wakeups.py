"""Coroutines that wait for a topic of the queue, woken by its commits."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from server.queue import ANYTHING


class Wakeups:
    """Waiters by topic. Topics that start with ``tier:`` wake one waiter each time, others all."""

    def __init__(self) -> None:
        self._waiters: defaultdict[str, list[asyncio.Future[Any]]] = defaultdict(list)
        self.draining = asyncio.Event()

    def expect(self, topic: str) -> asyncio.Future[Any]:
        """A future that the next ``fire`` of the topic resolves; give it back to ``forget``."""
        future = asyncio.get_running_loop().create_future()
        if self.draining.is_set():
            future.set_result(None)
        else:
            self._waiters[topic].append(future)
        return future

    def forget(self, topic: str, future: asyncio.Future[Any]) -> None:
        """Stop waiting."""
        waiters = self._waiters.get(topic, [])
        if future in waiters:
            waiters.remove(future)
        if not waiters:
            self._waiters.pop(topic, None)

    def fire(self, news: Mapping[str, Any]) -> None:
        """Wake who waits for these topics, with the news of each; ``ANYTHING`` wakes everybody."""
        if ANYTHING in news:
            news = dict.fromkeys(self._waiters)
        for topic, told in news.items():
            waiters = self._waiters.get(topic, [])
            chosen = waiters[:1] if topic.startswith("tier:") else list(waiters)
            for future in chosen:
                if not future.done():
                    future.set_result(told)
                self.forget(topic, future)

    def drain(self) -> None:
        """Wake everybody, now and from now on: the server is about to end."""
        self.draining.set()
        for topic in list(self._waiters):
            while self._waiters.get(topic):
                self.fire({topic: None})


async def wait(future: asyncio.Future[Any], seconds: float) -> bool:
    """Whether the future was resolved within ``seconds``."""
    done, _ = await asyncio.wait([future], timeout=max(0.0, seconds))
    return bool(done)
