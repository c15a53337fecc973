"""A day from its morning to its last prediction, and what was seen of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median, quantiles

from benchmarks.day.leading import Leader
from benchmarks.day.promises import Promises
from benchmarks.day.tiers import CAPACITY, DAY, FIRST_HOUR, SENDERS, arrivals, part
from benchmarks.day.world import Crew, Sample, World
from server.leader.claiming import amounts


@dataclass(frozen=True, slots=True)
class Told:
    """What the clients of a tier saw, and what its workers did."""

    predictions: int
    waits: tuple[float, float, float]
    """In seconds: the median, the 95th percentile and the longest."""
    starts: int
    recalls: int
    handed_back: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A day. ``ended`` is when its last prediction was done and its last worker had left, in seconds."""

    tiers: Mapping[str, Told]
    samples: Sequence[Sample]
    ended: float
    promises: Promises | None
    """None where the quotas alone decided."""

    @property
    def working(self) -> float:
        """The part of the cores that worked, on average."""
        return self._part(self.samples)

    @property
    def working_while_waiting(self) -> float:
        """The same, of those moments at which some prediction waited."""
        return self._part([sample for sample in self.samples if sample.waiting])

    @staticmethod
    def _part(samples: Sequence[Sample]) -> float:
        return mean(sum(sample.working.values()) for sample in samples) / amounts(CAPACITY)["cpu"]


def day(seed: int, lending: bool, seconds: float = DAY) -> Outcome:
    """Simulate the first ``seconds`` of a day, and go on until all that came is done.

    With lending, each tier may use all of the capacity, or as much as its ceiling says. Without, each has the quota
    that is its part of the capacity. Raises ``RuntimeError`` if a prediction was lost.
    """
    came = {sender.name: arrivals(sender, seed, seconds) for sender in SENDERS}
    if lending:
        promises = Promises(amounts(CAPACITY), {sender.name: sender.share for sender in SENDERS})
        quotas = {sender.name: amounts({**CAPACITY, **sender.quota}) for sender in SENDERS}
    else:
        promises, quotas = None, {sender.name: part(sender) for sender in SENDERS}
    world = World(SENDERS, quotas, Leader(promises).look)
    ended = world.run(came, seconds)
    for name, crew in world.crews.items():
        if crew.done != len(came[name]):
            raise RuntimeError(f"{name} was sent {len(came[name])} predictions, and {crew.done} were done")
    return Outcome({name: _told(crew) for name, crew in world.crews.items()}, world.samples, ended, promises)


def clock(at: float) -> float:
    """The hour of the clock at a second of the day."""
    return (FIRST_HOUR + at / 3600) % 24


def _told(crew: Crew) -> Told:
    waits = list(crew.waits.values()) if len(crew.waits) > 1 else [*crew.waits.values(), 0.0, 0.0]
    return Told(
        predictions=crew.done,
        waits=(median(waits), quantiles(waits, n=20)[18], max(waits)),
        starts=crew.starts,
        recalls=crew.recalls,
        handed_back=crew.handed_back,
    )
