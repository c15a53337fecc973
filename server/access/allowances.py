"""Holds callers to their limits, and tells the table what they used, for the other servers."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import lru_cache, partial
from typing import Any, TypeVar

from server.access.callers import NO_LIMITS, Caller
from server.access.limits import DAY_SECONDS, MOST_ACCOUNTS, Limits, burst_of
from server.access.refusals import bytes_queued_limit, day_limit, queued_limit, rate_limit
from server.queue import (
    CallerQueueBytesFull,
    CallerQueueFull,
    Depth,
    Queue,
    QueueError,
    Recent,
    Use,
    Used,
)
from server.settings.records import CallerLimits, Tier

TELL_SECONDS = 0.5
TOLD_AT_ONCE = 200  # callers in one operation: some milliseconds of the writer's time
RECENT_SECONDS = 0.1
LAST_SECONDS = 3.0  # how long a server that stops waits until the table has heard the last

T = TypeVar("T")

log = logging.getLogger(__name__)


class _Waiting:
    """How much of a caller waits in the table: as it was counted last, and what has come since."""

    def __init__(self, ask: Callable[[], Future[tuple[int, int]]], seconds: float) -> None:
        self._recent = Recent(ask, seconds)
        self._counted: tuple[int, int] = 0, 0
        self.since, self.bytes_since = 0, 0

    async def get(self) -> tuple[int, int]:
        """How many predictions, and the bytes of their pictures. Raises what the queue raises."""
        counted = await self._recent.get()
        if counted is not self._counted:  # ``Recent`` gives the same object until it asks again
            self._counted, self.since, self.bytes_since = counted, 0, 0
        return counted[0] + self.since, counted[1] + self.bytes_since


class Allowances:
    """The limits of callers at one server. Its methods belong to the event loop, unless they say otherwise.

    ``beside`` says how much of a caller waits in a tier that is not in the table; it is called from any thread. A
    caller without limits costs nothing.
    """

    def __init__(
        self,
        queue: Queue,
        clock: Callable[[], float],
        beside: Callable[[str, str], Depth],
        recent_seconds: float = RECENT_SECONDS,
    ) -> None:
        self._queue, self._beside, self._recent_seconds = queue, beside, recent_seconds
        self._limits = Limits(clock)
        self._waiting: OrderedDict[tuple[str, str], _Waiting] = OrderedDict()
        self._trouble = ""
        self._telling: set[asyncio.Future[list[Used]]] = set()
        self._stopped = False

    def start(self) -> None:
        """Tell the table from now on, on the running loop."""
        loop = asyncio.get_running_loop()
        loop.call_later(TELL_SECONDS, self._tell_again, loop)

    async def stop(self) -> None:
        """Tell the table the last, and no more."""
        self._stopped = True
        self._tell()
        if self._telling:
            await asyncio.wait(self._telling, timeout=LAST_SECONDS)

    def request(self, caller: Caller, tier: Tier) -> None:
        """Count a request. Raises ``Problem`` with 429 for one that comes too early, which does not count."""
        limits = caller.limits(tier)
        if limits.per_second and (wait := self._limits.request(tier.name, caller.name, limits)):
            raise rate_limit(tier.name, limits, wait)

    async def enter(self, caller: Caller, tier: Tier, size: int, depth: Depth) -> None:
        """Check that a caller may have one prediction more, of at least ``size`` bytes, and one picture more today.

        ``depth`` is how much is alive of the whole tier, at least: only if that reaches the caller's limits, the table
        is asked. Raises ``Problem`` with 429, and what the queue raises.
        """
        limits = caller.limits(tier)
        if limits == NO_LIMITS:
            return
        if limits.per_day:
            if self._limits.pictures_left(tier.name, caller.name, limits) is None:
                await self._know(tier.name, caller.name)
            if not self._limits.pictures_left(tier.name, caller.name, limits):
                raise day_limit(tier.name, limits, self._limits.left(tier.name, caller.name, limits))
        await self._check_waiting(caller, tier, limits, size, depth)

    async def admit(self, caller: Caller, tier: Tier, pictures: int, size: int, depth: Depth) -> None:
        """As ``enter``, of a prediction that does not go to the table; and take its pictures."""
        limits = caller.limits(tier)
        if limits == NO_LIMITS:
            return
        await self.take(caller, tier, pictures)
        try:
            await self._check_waiting(caller, tier, limits, size, depth)
        except BaseException:
            self.give_back(caller, tier, pictures)
            raise

    async def take(self, caller: Caller, tier: Tier, pictures: int) -> None:
        """Take pictures of the day. Raises ``Problem`` with 429 if fewer are left, and what the queue raises."""
        limits = caller.limits(tier)
        if not limits.per_day or self._limits.take(tier.name, caller.name, limits, pictures):
            return
        use = self._limits.hand_over(tier.name, caller.name)
        ask = self._queue.take_pictures
        answer = self._hand([use], lambda: ask(use, pictures, limits.per_day), lambda taken: [taken[1]])
        fits, _ = await asyncio.shield(answer)
        if not fits:
            raise day_limit(tier.name, limits, self._limits.left(tier.name, caller.name, limits))

    def give_back(self, caller: Caller, tier: Tier, pictures: int) -> None:
        """Nothing of these pictures was kept, after all."""
        limits = caller.limits(tier)
        if limits.per_day:
            self._limits.give_back(tier.name, caller.name, limits, pictures)

    def room(self, caller: Caller, tier: Tier) -> tuple[int | None, int | None]:
        """How many predictions of a caller, and bytes of them, may wait in the table. May be called from any thread."""
        limits = caller.limits(tier)
        beside = self._beside(tier.name, caller.name)
        most = limits.queued - beside.queued if limits.queued else None
        return most, limits.bytes_queued - beside.bytes if limits.bytes_queued else None

    def refusal(
        self, error: CallerQueueFull | CallerQueueBytesFull, caller: Caller, tier: Tier, size: int
    ) -> Exception:
        """The problem of a prediction, of ``size`` bytes, for which there was no such room."""
        limits = caller.limits(tier)
        if isinstance(error, CallerQueueFull):
            return queued_limit(tier.name, limits, error.depth + limits.queued - error.limit)
        return bytes_queued_limit(tier.name, limits, error.taken + limits.bytes_queued - error.limit, size)

    def kept(self, tier: str, caller: str, size: int) -> None:
        """A prediction of a caller has come into the table, and waits there."""
        if waiting := self._waiting.get((tier, caller)):
            waiting.since += 1
            waiting.bytes_since += size

    def fields(self, caller: Caller, tier: Tier) -> Mapping[str, str]:
        """The header fields that tell a caller its limits (draft-ietf-httpapi-ratelimit-headers-10)."""
        limits = caller.limits(tier)
        if not (policy := _policy(limits)):
            return {}
        left, states = self._limits.left(tier.name, caller.name, limits), []
        if left.requests is not None:
            states.append(f'"second";r={left.requests};t={math.ceil(left.more_in)}')
        if left.pictures is not None:
            states.append(f'"day";r={left.pictures};t={math.ceil(left.midnight_in)}')
        return {"RateLimit-Policy": policy, "RateLimit": ", ".join(states)}

    async def describe(self, caller: Caller, tier: Tier) -> dict[str, Any]:
        """What a caller may do in a tier, and what is left of it; None is no limit. Raises what the queue raises."""
        limits = caller.limits(tier)
        if limits.per_day:
            self._limits.pictures_left(tier.name, caller.name, limits)
            await self._know(tier.name, caller.name)
        queued = bytes_queued = None
        if limits.queued or limits.bytes_queued:
            waits, taken = await self._waits(caller, tier, limits)
            queued = max(0, limits.queued - waits) if limits.queued else None
            bytes_queued = max(0, limits.bytes_queued - taken) if limits.bytes_queued else None
        left = self._limits.left(tier.name, caller.name, limits)
        return {
            "anonymous": tier.access.anonymous,
            "allowed": caller.may_use(tier),
            "limits": {
                "per_second": limits.per_second or None,
                "burst": burst_of(limits) if limits.per_second else None,
                "per_day": limits.per_day or None,
                "queued": limits.queued or None,
                "bytes_queued": limits.bytes_queued or None,
            },
            "left": {
                "requests": left.requests,
                "pictures": left.pictures,
                "queued": queued,
                "bytes_queued": bytes_queued,
            },
        }

    async def _check_waiting(self, caller: Caller, tier: Tier, limits: CallerLimits, size: int, depth: Depth) -> None:
        queued, most = limits.queued or math.inf, limits.bytes_queued or math.inf
        if depth.queued < queued and depth.bytes + size <= most:
            return  # even if all of the tier were this caller's
        waits, taken = await self._waits(caller, tier, limits)
        if waits >= queued:
            raise queued_limit(tier.name, limits, waits)
        if taken + size > most:
            raise bytes_queued_limit(tier.name, limits, taken, size)

    async def _waits(self, caller: Caller, tier: Tier, limits: CallerLimits) -> tuple[int, int]:
        key = tier.name, caller.name
        if (waiting := self._waiting.get(key)) is None:
            most = limits.queued or tier.limits.queue
            ask = partial(self._queue.waiting_of, *key, most)
            waiting = self._waiting[key] = _Waiting(ask, self._recent_seconds)
            if len(self._waiting) > MOST_ACCOUNTS:
                self._waiting.popitem(last=False)
        self._waiting.move_to_end(key)
        queued, taken = await waiting.get()
        beside = self._beside(*key)
        return queued + beside.queued, taken + beside.bytes

    async def _know(self, tier: str, caller: str) -> None:
        """Ask the table what a caller has used today. Its account is there."""
        use = self._limits.hand_over(tier, caller)
        await asyncio.shield(self._hand([use], lambda: self._queue.use([use]), lambda used: used))

    def _tell_again(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._stopped:
            return
        loop.call_later(TELL_SECONDS, self._tell_again, loop)
        if not self._telling:  # a table that is slow to answer is not told more and more
            self._tell()

    def _tell(self) -> None:
        pages = list(iter(lambda: self._limits.due(TOLD_AT_ONCE), []))  # first, as what is not heard is due again
        for page in pages:
            try:
                future = self._hand(page, partial(self._queue.use, page), lambda used: used)
            except QueueError:
                continue
            self._telling.add(future)
            future.add_done_callback(self._telling.discard)

    def _hand(
        self, uses: Sequence[Use], ask: Callable[[], Future[T]], totals: Callable[[T], Sequence[Used]]
    ) -> asyncio.Future[T]:
        """Hand over to the table what ``ask`` tells it, and learn the totals from its answer.

        The answers come in the order of the questions. Raises ``QueueError`` if the table cannot be asked.
        """
        try:
            future = asyncio.wrap_future(ask())
        except QueueError as error:
            self._unheard(uses, error)
            raise
        future.add_done_callback(partial(self._learn, uses, totals))
        return future

    def _learn(self, uses: Sequence[Use], totals: Callable[[T], Sequence[Used]], future: asyncio.Future[T]) -> None:
        if future.cancelled() or (error := future.exception()):
            self._unheard(uses, None if future.cancelled() else error)
            return
        for use, used in zip(uses, totals(future.result()), strict=True):
            self._limits.learn(use, used)
        if self._trouble:
            log.info("the limits of callers are shared with other servers again")
            self._trouble = ""

    def _unheard(self, uses: Sequence[Use], error: BaseException | None) -> None:
        for use in uses:
            self._limits.failed(use)
        if error and str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("the limits of callers are not shared with other servers for now: %s", error)


@lru_cache(maxsize=1024)
def _policy(limits: CallerLimits) -> str:
    policies = []
    if limits.per_second:
        burst = burst_of(limits)
        policies.append(f'"second";q={burst};w={math.ceil(burst / limits.per_second)}')
    if limits.per_day:
        policies.append(f'"day";q={limits.per_day};w={DAY_SECONDS}')
    return ", ".join(policies)
