"""What lending promises, checked at each look of the leader by a computation that shares nothing with the planner."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from benchmarks.day.world import FORCED_SECONDS, GONE_SECONDS, LAST_SECONDS, TICK_SECONDS, Crew, Worker, World

HUNG_SECONDS = 1.0
HAND_OVER_SECONDS = 1.0 + FORCED_SECONDS  # a worker ends what it has begun, and another one starts
YOUNG_SECONDS = 10.0  # a worker is left alone for so long
OWED_SECONDS = YOUNG_SECONDS + FORCED_SECONDS + LAST_SECONDS + GONE_SECONDS + 3 * TICK_SECONDS
ROUNDING = 1e-6
Recalls = Mapping[str, Sequence[tuple[Worker, str]]]
"""The workers that were recalled at one look, by tier, each with the reason that it was told."""
FOR = re.compile(r"lent quota went back to (\S+)")


@dataclass(slots=True)
class Errand:
    """Workers that were recalled at one look for one tier: when they have gone it starts a Job, or needs none."""

    tier: str
    workers: Sequence[Worker]
    starts: int
    gone: float | None = None


@dataclass(slots=True)
class Promises:
    """Collects what was broken. ``capacity`` and the shares are those that the planner was given."""

    capacity: Mapping[str, float]
    shares: Mapping[str, int]
    broken: list[str] = field(default_factory=list)
    looks: int = 0
    spared: int = 0
    """Recalled workers whose room was not needed any more when they had gone."""
    passed: int = 0
    """Recalled workers whose room went to a tier on a lower level, which came meanwhile."""
    fresh: int = 0
    """Recalled workers that had not been given anything yet."""
    longest_owed: float = 0.0
    """For how long a tier waited for a Job within its part while another one was above its own."""
    _errands: list[Errand] = field(default_factory=list)
    _owed: dict[str, float] = field(default_factory=dict)
    _levels: dict[str, float] = field(default_factory=dict)
    _starts: dict[str, int] = field(default_factory=dict)
    _looked: float = 0.0

    def before(self, world: World, now: float) -> None:
        """Remember how things stood, and follow what was recalled earlier."""
        crews = world.crews
        self._levels = {name: self._level(crew, len(crew.workers)) for name, crew in crews.items()}
        self._starts = {name: crew.starts for name, crew in crews.items()}
        if now - self._looked > 2 * TICK_SECONDS:  # nothing waited meanwhile
            for errand in list(self._errands):
                self._spare(errand)
            self._owed.clear()
        self._looked = now
        for errand in list(self._errands):
            self._follow(errand, world, now)

    def after(self, world: World, recalls: Recalls, now: float) -> None:
        """Check what was just done."""
        self.looks += 1
        for resource, most in self.capacity.items():
            used = sum(len(crew.workers) * crew.needs.get(resource, 0.0) for crew in world.crews.values())
            self._hold(used <= most * (1 + ROUNDING), now, f"{used:g} of {most:g} {resource} are in use")
        for name, crew in world.crews.items():
            for resource, most in crew.hard.items():
                used = len(crew.workers) * crew.needs.get(resource, 0.0)
                self._hold(used <= most * (1 + ROUNDING), now, f"{name} uses {used:g} of its {most:g} {resource}")
        for name, told in recalls.items():
            self._recalled(world.crews[name], told, now)
        self._begin(world, recalls)
        going = any(worker.recalled for crew in world.crews.values() for worker in crew.workers)
        for crew in world.crews.values():
            self._wait(world, crew, going, now)

    def _hold(self, promise: bool, now: float, otherwise: str) -> None:
        if not promise:
            self.broken.append(f"at {now:.2f} s: {otherwise}")

    def _level(self, crew: Crew, workers: int) -> float:
        """The dominant share of so many workers, divided by the tier's part."""
        one = max(crew.needs.get(resource, 0.0) / most for resource, most in self.capacity.items())
        return workers * one * sum(self.shares.values()) / self.shares[crew.sender.name]

    def _recalled(self, crew: Crew, told: Sequence[tuple[Worker, str]], now: float) -> None:
        """Each recalled worker was old enough and newer than those that stay, of a tier above its part."""
        name, workers = crew.sender.name, [worker for worker, _ in told]
        for worker in workers:
            self._hold(now - worker.opened >= YOUNG_SECONDS - ROUNDING, now, f"{name} lost a worker that was young")
            self.fresh += worker.changes == 0
        stay = [one for one in crew.workers if not one.recalled and now - one.opened >= YOUNG_SECONDS]
        newer = stay and workers and max(one.opened for one in stay) > min(one.opened for one in workers)
        self._hold(not newer, now, f"{name} lost a worker that was not its newest")

    def _begin(self, world: World, recalls: Recalls) -> None:
        of: dict[str, list[Worker]] = {}
        for told in recalls.values():
            for worker, reason in told:
                if found := FOR.search(reason):
                    of.setdefault(found[1], []).append(worker)
        self._errands += [Errand(tier, workers, world.crews[tier].starts) for tier, workers in of.items()]

    def _follow(self, errand: Errand, world: World, now: float) -> None:
        """No recall is in vain: its room is used as soon as the workers have gone, if the tier still needs a Job."""
        crew = world.crews[errand.tier]
        if crew.starts > errand.starts:
            self._errands.remove(errand)
        elif errand.gone is None and all(worker.gone for worker in errand.workers):
            errand.gone = now
        elif errand.gone is not None and _unserved(crew, now) <= 0:
            self._spare(errand)
        elif errand.gone is not None and now - errand.gone > 2 * TICK_SECONDS:
            self._errands.remove(errand)  # a tier on an even lower level came meanwhile
            self.passed += len(errand.workers)

    def _spare(self, errand: Errand) -> None:
        self._errands.remove(errand)
        self.spared += len(errand.workers)

    def _wait(self, world: World, crew: Crew, going: bool, now: float) -> None:
        """Who needs a Job gets it, or there is no room and workers of those above their parts are on their way."""
        name = crew.sender.name
        if _unserved(crew, now) <= 0 or crew.room().jobs < 1 or crew.starts > self._starts[name]:
            self._owed.pop(name, None)
            return
        free = {
            resource: most - sum(len(one.workers) * one.needs.get(resource, 0.0) for one in world.crews.values())
            for resource, most in self.capacity.items()
        }
        self._hold(going or not _fits(free, crew.needs), now, f"{name} waits beside room for a Job")
        if self._level(crew, len(crew.workers) + 1) > 1 + ROUNDING or not self._lend(world, crew, free):
            self._owed.pop(name, None)
            return
        if crew.workers and len(crew.queue) * crew.sender.seconds / len(crew.workers) <= HAND_OVER_SECONDS:
            return  # its own workers have done that sooner than others could make room
        able = self._lend(world, crew, free, now - YOUNG_SECONDS)
        self._hold(going or not able, now, f"{name} is below its part, and nobody above its own hands back")
        waited = now - self._owed.setdefault(name, now)
        self.longest_owed = max(self.longest_owed, waited)
        if waited > OWED_SECONDS:
            self._owed[name] = now
            self._hold(False, now, f"{name} has been below its part for {waited:.0f} s, beside others above theirs")

    def _lend(self, world: World, to: Crew, free: Mapping[str, float], opened: float = inf) -> bool:
        """Whether those above their parts could make room for a Job, with their workers that were opened by then."""
        room = dict(free)
        for crew in world.crews.values():
            workers = len(crew.workers)
            for worker in reversed(crew.workers):
                if crew is to or self._level(crew, workers) <= 1 + ROUNDING:
                    break
                if worker.opened <= opened:
                    workers -= 1
                    room = {each: amount + crew.needs.get(each, 0.0) for each, amount in room.items()}
        return _fits(room, to.needs)


def _unserved(crew: Crew, now: float) -> int:
    """How many more Jobs would each find a prediction, beside the workers that have not begun.

    A worker that ends looks idle for a moment, so what came just now is thought to be taken by it.
    """
    if not crew.queue or now - crew.queue[0].at < HUNG_SECONDS:
        return 0
    return len(crew.queue) - sum(not worker.asked for worker in crew.workers)


def _fits(free: Mapping[str, float], needs: Mapping[str, float]) -> bool:
    return all(needs.get(each, 0.0) <= amount * (1 + ROUNDING) for each, amount in free.items())
