"""What callers and workers ask of the lobby. What is not in it is passed on to the table."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor

from server.access.workers import Worker
from server.blobs import Piece
from server.intake.memory import Held
from server.intake.pictures import Pictures
from server.lobby.entries import Book, Entry, LaneOf, State
from server.lobby.keeping import Keeping
from server.lobby.settling import Settling
from server.lobby.shares import Shares
from server.points import Point, reached
from server.queue import (
    Completion,
    Depth,
    Hold,
    Leased,
    Place,
    Prediction,
    Queue,
    Serving,
    Submission,
    asked,
    fault,
    new_token,
)
from server.settings.records import Settings

LOBBY_BYTES = 64 * 1024 * 1024  # of the pictures in it; each tier has an equal share
LARGEST_BYTES = 8 * 1024 * 1024  # larger ones are streamed to workers from where they are kept


class Lobby:
    """The entries of one server. ``ended`` is told of each prediction that ends here, for counting.

    ``serving`` says what a tier serves, and never waits.
    """

    def __init__(
        self,
        queue: Queue,
        pictures: Pictures,
        disk: Executor,
        settings: Callable[[], Settings],
        clock: Callable[[], float],
        ended: Callable[[Prediction], None],
        serving: Callable[[str], Serving],
    ) -> None:
        self._queue, self._settings, self._clock, self._serving = queue, settings, clock, serving
        self.book, self.shares = Book(), Shares(self._now)
        self._settling = Settling(queue, self.book, ended)
        self.arrived: Callable[[LaneOf], None] = lambda _: None  # told of a lane in which an entry waits (again)
        here = self.book, self.shares
        self._keeping = Keeping(queue, pictures, disk, *here, settings, ended, lambda lane: self.arrived(lane))

    def has_place(self, submission: Submission, stored: int) -> bool:
        """Whether a request may come in, while ``stored`` predictions of its tier wait in the table.

        If any do, they may be its caller's, so the table must have said lately where that stands.
        """
        settings, size = self._settings(), submission.size
        share = LOBBY_BYTES // max(1, len(settings.tiers))
        if settings.lobby_seconds <= 0 or size > LARGEST_BYTES or self.book.bytes_of(submission.tier) + size > share:
            return False
        return stored == 0 or self.shares.knows(submission)

    def enter(
        self,
        submission: Submission,
        pictures: Sequence[Sequence[Piece]],
        held: Held,
        changed: Callable[[], None],
    ) -> Entry:
        """Let a request wait here. ``held`` counts the memory of its pictures, and ``submission.size`` is their blob's.

        ``changed`` is called when the entry has left.
        """
        start = self.shares.start(submission)
        entry = Entry(submission, start, self._clock(), pictures, held, changed, self._now())
        if entry.lane[1] and not self._has_canary(submission.tier):  # since the lane was chosen it has ended
            entry.lane = submission.tier, False
        self.book.add(entry)
        self._keeping.watch()
        reached(Point.LOBBY_ENTERED)
        self.arrived(entry.lane)
        return entry

    def withdraw(self, entry: Entry) -> None:
        """Drop an entry whose caller hung up, unless work on it has begun or it is being kept."""
        if entry.state is State.WAITING:
            self.book.leave(entry, None)
            one = entry.submission
            if not self.book.of_caller(one.tier, one.caller).queued:
                self.shares.withdrawn(one)

    async def keep(self, entry: Entry) -> Prediction:
        """The prediction once it is durable. Raises ``BlobError`` and what the queue raises: nothing is kept then."""
        while entry.state is not State.GONE:
            if entry.step is not None:
                await asyncio.shield(entry.step)
            else:
                await self._keeping.keep(entry)
        if isinstance(entry.outcome, Exception):
            raise entry.outcome
        assert entry.outcome is not None
        return entry.outcome

    def depths(self, table: Mapping[str, Depth]) -> dict[str, Depth]:
        """These depths of the table with what is here. May be called from any thread."""
        return self.book.beside(table)

    def ahead_of(self, tier: str, place: Place) -> int:
        """How many entries of a tier wait here before a place."""
        lines = self.book.lines
        ahead = lines[tier, False].ahead_of(place)
        return ahead + lines[canary].ahead_of(place) if (canary := (tier, True)) in lines else ahead

    def end_canaries(self) -> None:
        """Give main what is here of canaries that get no predictions any more."""
        for tier in [tier for tier, canary in self.book.lines if canary and not self._has_canary(tier)]:
            self.book.end_canary(tier)
            self.arrived((tier, False))

    def lease(self, entry: Entry, job: str, *, reaches: bool) -> Leased:
        """Give a waiting entry to a worker. ``reaches``: the tier has then reached its turn."""
        entry.due_from = self._now()
        self.book.work_on(entry, Hold(job, token := new_token(job), self._clock()))
        one = entry.submission
        self.shares.handed(one, entry.start, reaches=reaches)
        carried = {name: getattr(one, name) for name in ("function", "trace", "request_id")}
        return Leased(one.id, token, one.images, one.size, one.top_k, attempt=1, solo=False, **carried)

    async def take_up(self, worker: Worker, leases: Sequence[tuple[str, str]], seconds: float) -> list[Leased]:
        """A worker is there (again), and holds these leases; answers those of the table that it still has.

        What else was leased to its Job never reached it, and waits again. Raises ``UnknownJob``.
        """
        # What is being kept is a lease of the table in a moment, or was not kept.
        while keys := [key for key, entry in self.book.keeping.items() if entry.hold and entry.hold.job == worker.job]:
            await self._until_written(keys)
        for entry in list(self.book.worked_on.values()):
            hold = entry.hold
            if hold and hold.job == worker.job and (entry.submission.id, hold.token) not in leases:
                self._hand_back(entry)
        return await asked(self._queue.take_up(worker.tier, worker.job, leases, seconds))

    async def complete(
        self, worker: Worker, completions: Sequence[Completion], attempts: int, model: str = ""
    ) -> list[str]:
        """Take results; answers for each what ``Queue.complete`` answers, and waits only for those of the table.

        ``attempts`` is how many leases of a prediction may be lost, ``model`` the one that results must name. Raises
        what the queue raises when it could not store those.
        """
        outcomes = self._complete(worker, completions, model)
        if "" not in outcomes:
            return outcomes
        rest = [index for index, outcome in enumerate(outcomes) if not outcome]
        for index in rest:
            await self._until_written([completions[index].id])
            (outcomes[index],) = self._complete(worker, [completions[index]], model)  # it may have come back
        rest = [index for index in rest if not outcomes[index]]
        if rest:
            of_table = [completions[index] for index in rest]
            answers = await asked(self._queue.complete(worker.job, of_table, attempts, model))
            for index, answer in zip(rest, answers, strict=True):
                outcomes[index] = answer
        return outcomes

    async def renew(self, worker: Worker, leases: Sequence[tuple[str, str]], seconds: float) -> list[str]:
        """Prolong leases; answers the ids of those that the worker has lost."""
        await self._until_written([key for key, _ in leases])
        of_table = [(key, token) for key, token in leases if not self._held(worker, key, token)]
        return await asked(self._queue.extend(worker.job, of_table, seconds))

    async def release(self, worker: Worker, leases: Sequence[tuple[str, str]]) -> None:
        """Take back what the worker has not begun."""
        of_table = []
        for key, token in leases:
            await self._until_written([key])
            if entry := self._held(worker, key, token):
                self._hand_back(entry)
            else:
                of_table.append((key, token))
        if of_table:
            await asked(self._queue.release(worker.job, of_table))

    def _has_canary(self, tier: str) -> bool:
        serving = self._serving(tier)
        return serving.canary is not None and serving.percent > 0

    def _held(self, worker: Worker, key: str, token: str) -> Entry | None:
        entry = self.book.worked_on.get(key)
        hold = entry.hold if entry else None
        return entry if hold and (hold.job, hold.token) == (worker.job, token) else None

    def _complete(self, worker: Worker, completions: Sequence[Completion], model: str) -> list[str]:
        """The outcome of each result; empty for one that is none of an entry that is worked on."""
        outcomes, results = [], []
        for completion in completions:
            entry = self._held(worker, completion.id, completion.token)
            if entry is None:
                outcomes.append("")
            elif why := _fault(entry, completion, model):
                entry.lost = f"its worker handed in what cannot be its result: {why}"
                self._keeping.keep_soon(entry)
                outcomes.append("invalid")
            else:
                self.book.write(entry, State.SETTLING)
                reached(Point.LOBBY_FINISHED)
                results.append((entry, completion))
                outcomes.append("accepted")
        self._settling.add(results)
        return outcomes

    def _hand_back(self, entry: Entry) -> None:
        self.book.wait_again(entry)
        self.arrived(entry.lane)

    async def _until_written(self, keys: Sequence[str]) -> None:
        """Return when none of these is being kept: each is in the table then, or where it was."""
        while steps := [step for key in keys if (entry := self.book.keeping.get(key)) and (step := entry.step)]:
            await asyncio.shield(steps[0])

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _fault(entry: Entry, completion: Completion, model: str) -> str:
    return fault(entry.submission, completion, json.dumps(completion.results), model)
