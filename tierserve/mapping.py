"""Classifies many pictures at once, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence, Sized
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType

from tierserve.errors import TierserveError
from tierserve.pictures import Picture
from tierserve.predictions import Label, Prediction, PredictionFailed
from tierserve.together import together

AHEAD = 4
"""How many times ``concurrency`` pictures may be under way, or done and not taken yet."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one picture of many: ``index`` counts from 0 in the order in which they were given.

    It has a ``prediction`` or an ``error``, and both if the prediction was made and failed.
    """

    index: int
    picture: Picture
    prediction: Prediction | None
    error: TierserveError | None

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels, the best first; none if there is an error."""
        return self.prediction.labels if self.prediction else ()


@dataclass(frozen=True, slots=True)
class Progress:
    """How many pictures are done, how many of these failed, and how many there are, if that is known."""

    done: int
    failed: int
    total: int | None


class Mapping:
    """Has ``classify`` done for each picture, ``concurrency`` at a time, while the block of ``async with`` lasts.

    It never holds more than ``AHEAD`` times as many pictures: who takes the outcomes slowly slows it down.
    """

    def __init__(
        self,
        pictures: Iterable[Picture],
        classify: Callable[[Picture], Awaitable[Prediction]],
        concurrency: int,
        ordered: bool,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency is at least 1, and not {concurrency}")
        # Only what is no sequence may take long to tell the next one.
        self._slow = not isinstance(pictures, Sequence)
        self._pictures, self._taking = enumerate(pictures), asyncio.Lock()
        self._classify, self._concurrency, self._ordered = classify, concurrency, ordered
        self._room = asyncio.Semaphore(AHEAD * concurrency)
        self._held: dict[int, Outcome] = {}
        self._given, self._ended = 0, False
        self._ready: list[Outcome] = []
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Mapping:
        self._work = asyncio.create_task(self._all())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._work.cancel()
        await asyncio.wait([self._work])

    async def batch(self) -> list[Outcome]:
        """The outcomes that are there and were not given yet, at least one; none at the end.

        Raises what the iterator of the pictures raised.
        """
        while not self._ready:
            if self._ended:
                await self._work
                return []
            self._changed.clear()
            await self._changed.wait()
        ready, self._ready = self._ready, []
        for _ in ready:
            self._room.release()
        return ready

    async def _all(self) -> None:
        try:
            await together(*(self._one_by_one() for _ in range(self._concurrency)))
        finally:
            self._ended = True
            self._changed.set()

    async def _one_by_one(self) -> None:
        while True:
            await self._room.acquire()
            if (taken := await self._take()) is None:
                return
            index, picture = taken
            try:
                outcome = Outcome(index, picture, await self._classify(picture), None)
            except PredictionFailed as failed:
                outcome = Outcome(index, picture, failed.prediction, failed)
            except TierserveError as error:
                outcome = Outcome(index, picture, None, error)
            self._give(outcome)

    async def _take(self) -> tuple[int, Picture] | None:
        if not self._slow:
            return next(self._pictures, None)
        async with self._taking:
            return await asyncio.to_thread(next, self._pictures, None)

    def _give(self, outcome: Outcome) -> None:
        if self._ordered:
            self._held[outcome.index] = outcome
            while (following := self._held.pop(self._given, None)) is not None:
                self._ready.append(following)
                self._given += 1
        else:
            self._ready.append(outcome)
        if self._ready:
            self._changed.set()


class Counting(AbstractContextManager["Counting"]):
    """Counts outcomes, and shows them by calling ``progress``, or if that is True in a bar on standard error."""

    def __init__(self, progress: bool | Callable[[Progress], None], pictures: Iterable[Picture]) -> None:
        self._done = self._failed = 0
        self._total = len(pictures) if isinstance(pictures, Sized) else None
        self._show: Callable[[Progress], None] | None = None
        self._end: Callable[[], None] = _nothing
        if progress is True:
            self._show, self._end = _bar(self._total)
        elif progress:
            self._show = progress

    def __exit__(self, *_: object) -> None:
        self._end()

    def count(self, outcome: Outcome) -> None:
        """One more is done."""
        self._done += 1
        self._failed += outcome.error is not None
        if self._show:
            self._show(Progress(self._done, self._failed, self._total))


def _nothing() -> None:
    """Nothing is to be ended."""


def _bar(total: int | None) -> tuple[Callable[[Progress], None], Callable[[], None]]:
    """What shows progress in a bar, and what ends the bar."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    bar = Bar(*columns, console=Console(stderr=True))
    task = bar.add_task("", total=total)
    bar.start()

    def show(progress: Progress) -> None:
        failed = f"{progress.failed} failed" if progress.failed else ""
        bar.update(task, completed=progress.done, description=failed)

    return show, bar.stop
