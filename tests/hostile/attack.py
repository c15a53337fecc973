"""What all attacks have in common."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import ClassVar

from tests.hostile.wire import Tally, Target, Wire

SOURCES, APART = 9, "127.0.0.50"


class Attack(ABC):
    """One way to hurt a server. It runs in the attackers' process and is cancelled when its time is over."""

    name: ClassVar[str]

    def __init__(self, target: Target, chance: random.Random) -> None:
        self.target, self.chance = target, chance
        self.tally = Tally()

    @abstractmethod
    async def run(self) -> None:
        """Attack until it is cancelled."""

    async def crowd(
        self,
        count: int,
        once: Callable[[Wire, int], Awaitable[object]],
        *,
        port: int | None = None,
        pause: float = 0.1,
        spread: float = 0.0,
    ) -> None:
        """Let ``count`` members connect and do something, again and again, with a pause in between.

        They come from different addresses; the first of them is also an address of honest clients. They come one after
        another within ``spread`` seconds.
        """

        async def member(index: int) -> None:
            await asyncio.sleep(spread * index / count)
            while True:
                source = f"127.0.0.{1 + index % SOURCES}"
                # A server that refuses, resets or does not answer an attacker does what it should.
                with suppress(OSError, TimeoutError):
                    async with Wire(port or self.target.port, source, self.tally) as wire:
                        await once(wire, index)
                await asyncio.sleep(pause)

        async with asyncio.TaskGroup() as group:
            for index in range(count):
                group.create_task(member(index))
