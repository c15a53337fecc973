"""What the leader does at each look, with the planner of the server: with a capacity, or with quotas alone."""

from __future__ import annotations

from benchmarks.day.promises import YOUNG_SECONDS, Promises
from benchmarks.day.world import Crew, Worker, World
from server.leader.lending import Claim
from server.leader.planning import Capacity, Demand, plan
from server.queue import Depth, Strikes

NO_STRIKES = Strikes(0, "", None)


class Leader:
    """Looks at a world. Without promises there is no capacity, and the quotas alone decide."""

    def __init__(self, promises: Promises | None = None) -> None:
        self._promises = promises

    def look(self, world: World, now: float) -> None:
        """Plan for all tiers, and do what was planned."""
        demands = {name: _demand(crew) for name, crew in world.crews.items()}
        if self._promises is None:
            for name, planned in plan(now, demands).items():
                _start(world, world.crews[name], planned.starts, now)
            return
        claims = {name: _claim(crew, now) for name, crew in world.crews.items()}
        plans = plan(now, demands, Capacity(self._promises.capacity, claims))
        self._promises.before(world, now)
        recalls = {}
        for name, crew in world.crews.items():
            workers = _recallable(crew, now)[: len(plans[name].recalls)]
            recalls[name] = list(zip(workers, plans[name].recalls, strict=True))
            for worker in workers:
                world.recall(crew, worker, now)
        for name, crew in world.crews.items():
            _start(world, crew, plans[name].starts, now)
        self._promises.after(world, recalls, now)


def _demand(crew: Crew) -> Demand:
    starting = sum(not worker.asked for worker in crew.workers)
    depth = Depth(len(crew.queue), crew.busy, crew.queue[0].at if crew.queue else None)
    seconds = crew.sender.seconds
    return Demand(depth, crew.room(), NO_STRIKES, len(crew.workers), starting, pace=crew.pace, seconds=seconds)


def _claim(crew: Crew, now: float) -> Claim:
    recalled = sum(worker.recalled for worker in crew.workers)
    return Claim(
        share=crew.sender.share,
        needs=crew.needs,
        used=_times(crew, len(crew.workers)),
        going=_times(crew, recalled),
        recallable=[crew.needs] * len(_recallable(crew, now)),
        recalled=recalled,
    )


def _recallable(crew: Crew, now: float) -> list[Worker]:
    """The newest first."""
    return [one for one in reversed(crew.workers) if not one.recalled and now - one.opened >= YOUNG_SECONDS]


def _times(crew: Crew, workers: int) -> dict[str, float]:
    return {resource: workers * amount for resource, amount in crew.needs.items()}


def _start(world: World, crew: Crew, starts: int, now: float) -> None:
    for _ in range(starts):
        world.start(crew, now)
    crew.pace = 2 * crew.pace if starts else 1
