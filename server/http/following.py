"""Which predictions are followed, what was last seen of each, and when to look again.

It does nothing while nobody follows. News says that something may have changed; as news can be lost, it looks without
them, too. One look serves all streams, and asks the queue for many predictions at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from server.http.wakeups import Waiter
from server.queue import Anything, Available, Ended, Moved, News, Prediction, QueueError

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # after which all are looked at although no news has come
REST_SECONDS = 0.2  # between two times that all are looked at
MOVED_REST_SECONDS = 0.05  # between two looks at those that have moved
# A rest is so many times as long as the look before it and the telling of it, so that both take a fifth of all time.
SHARE = 4
PAGE = 100
NUDGED_AT_ONCE = 50  # streams, before others on the event loop have their turn
DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class State:
    """What is told of a prediction: the event's name, and its data as JSON in one line.

    ``digest`` is the same at every server. ``owner`` is who may read it.
    """

    name: str
    data: str
    digest: int
    is_final: bool
    owner: str = ""

    @classmethod
    def of(cls, name: str, data: Mapping[str, Any], owner: str, *, is_final: bool = False) -> State:
        """The state with this data."""
        text = json.dumps(data, separators=(",", ":"))
        # The name says all that can differ in the end of one prediction.
        said = f"{data['id']} {name}" if is_final else f"{name} {text}"
        digest = hashlib.blake2b(said.encode(), digest_size=DIGEST_BYTES).digest()
        return cls(name, text, int.from_bytes(digest), is_final, owner)


class Reader(Protocol):
    """Who follows predictions."""

    def changed(self, prediction_id: str) -> None:
        """Another state was seen of this one; ``nudge`` comes later."""

    def nudge(self) -> None:
        """There may be something to tell."""


class _Followed:
    """A prediction that is followed. ``state`` is None before the first look, and if there is no such prediction."""

    __slots__ = ("readers", "state", "state_of_look")

    def __init__(self) -> None:
        self.readers: set[Reader] = set()
        self.state: State | None = None
        self.state_of_look = -1

    @property
    def is_over(self) -> bool:
        """Whether its final state was seen, which never changes."""
        return self.state is not None and self.state.is_final


class Following:
    """Lives on the event loop.

    ``look`` says how some predictions are, without those that do not exist; ``ended`` describes one that has ended.
    Whoever makes the handlers sets both.
    """

    look: Callable[[Collection[str]], Awaitable[Mapping[str, State]]]
    ended: Callable[[Prediction], State]

    def __init__(self) -> None:
        self._followed: dict[str, _Followed] = {}
        self._moved: dict[str, None] = {}  # a set in order
        self._left: list[str] = []  # of those that are all looked at
        self._all_at = 0.0  # when that began
        self._is_stale = False
        self._waiter = Waiter()
        self._numbers = itertools.count()
        self._to_nudge: dict[Reader, None] = {}
        self._task: asyncio.Task[None] | None = None

    async def follow(self, reader: Reader, prediction_ids: Collection[str]) -> None:
        """From now on ``reader`` is told of these, at most ``PAGE``. Raises what the queue raises: then it is not.

        When it returns, their states are known.
        """
        for one in prediction_ids:
            self._followed.setdefault(one, _Followed()).readers.add(reader)
        try:
            await self._see(list(prediction_ids))
        except BaseException:
            self.leave(reader, prediction_ids)
            raise
        if self._followed and self._task is None:
            self._all_at = self._now()
            self._task = asyncio.create_task(self._run())

    def leave(self, reader: Reader, prediction_ids: Collection[str]) -> None:
        """The reader follows these no more; further calls change nothing."""
        for one in prediction_ids:
            if (followed := self._followed.get(one)) is not None:
                followed.readers.discard(reader)
                if not followed.readers:
                    del self._followed[one]
        if not self._followed:
            self._waiter.wake()

    def state(self, prediction_id: str) -> State | None:
        """What was last seen of a prediction that is followed; None: there is none."""
        followed = self._followed.get(prediction_id)
        return None if followed is None else followed.state

    def hear(self, news: Sequence[News]) -> None:
        """Look soon at what the news concerns."""
        if not self._followed:
            return
        is_stale = False
        for one in news:
            match one:
                case Ended(prediction) if prediction.id in self._followed:
                    self._take({prediction.id: self.ended(prediction)}, [prediction.id])
                case Moved(id=moved):
                    if (followed := self._followed.get(moved)) and not followed.is_over:
                        self._moved[moved] = None
                    is_stale = True  # others have another position now
                case Available() | Anything():
                    is_stale = True
        if self._moved or (is_stale and not self._is_stale):
            self._waiter.wake()
        self._is_stale |= is_stale

    async def _run(self) -> None:
        """Look, page by page, until nobody follows."""
        try:
            while self._followed:
                began = self._now()
                try:
                    page, least = self._page(began)
                    await self._see(page)
                    while self._to_nudge:  # noqa: ASYNC110 (one turn of the loop after another)
                        await asyncio.sleep(0)
                    rest = max(least, SHARE * (self._now() - began))
                except QueueError as error:
                    log.warning("not looking at predictions that are followed: %s", error)
                    rest = LOOK_SECONDS
                except Exception:
                    log.exception("predictions that are followed could not be looked at")
                    rest = LOOK_SECONDS
                await asyncio.sleep(rest)
                if not (self._moved or self._left):
                    due_at = self._all_at + (REST_SECONDS if self._is_stale else LOOK_SECONDS)
                    await self._waiter.wait(due_at - self._now())
        finally:
            self._task = None

    def _page(self, now: float) -> tuple[list[str], float]:
        """Which are looked at now, and how long to rest afterwards at least."""
        if self._moved:
            page = list(itertools.islice(self._moved, PAGE))
            for one in page:
                del self._moved[one]
            return page, MOVED_REST_SECONDS
        due_at = self._all_at + (REST_SECONDS if self._is_stale else LOOK_SECONDS)
        if not self._left and now >= due_at:
            self._left = [one for one, followed in self._followed.items() if not followed.is_over]
            self._all_at, self._is_stale = now, False
        page = self._left[-PAGE:]
        del self._left[-PAGE:]
        return page, 0.0

    async def _see(self, page: Sequence[str]) -> None:
        """Look at these, and tell their readers what has changed."""
        if page := [one for one in page if one in self._followed]:
            number = next(self._numbers)
            self._take(await self.look(page), page, number)

    def _take(self, states: Mapping[str, State], page: Collection[str], number: int | None = None) -> None:
        """These states of a page were seen by the look with this number; None: by none, and they are final."""
        for one in page:
            followed, state = self._followed.get(one), states.get(one)
            if followed is None or followed.is_over:
                continue
            if number is not None:
                if number < followed.state_of_look:  # a look that began later has ended before
                    continue
                followed.state_of_look = number
            if state != followed.state:
                followed.state = state
                for reader in followed.readers:
                    reader.changed(one)
                    self._nudge_soon(reader)

    def _nudge_soon(self, reader: Reader) -> None:
        if not self._to_nudge:
            asyncio.get_running_loop().call_soon(self._nudge_some)
        self._to_nudge[reader] = None

    def _nudge_some(self) -> None:
        some = list(itertools.islice(self._to_nudge, NUDGED_AT_ONCE))
        for reader in some:
            del self._to_nudge[reader]
            reader.nudge()
        if self._to_nudge:
            asyncio.get_running_loop().call_soon(self._nudge_some)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
