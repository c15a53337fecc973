"""The ten tiers of the day, and what their clients send: each has a share, a size of worker and a shape of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import exp, pi, sin
from random import Random

from server.settings.quantity import parse_quantity

DAY = 86_400.0
FIRST_HOUR = 6  # the day begins in the morning, so that the batches of its night end within it
CAPACITY = {"cpu": "32", "memory": "64Gi", "pods": "64", "gpus": "4"}

Shape = Callable[[float], float]
"""From the hour of the clock to how much is sent: 1 is the usual peak."""


@dataclass(frozen=True, slots=True)
class Sender:
    """A tier and its clients.

    ``busy`` is how many workers the tier's clients keep busy at the usual peak of ``shape``. A prediction takes a
    worker ``seconds`` on average. ``bursts`` are how many come in a day, at random times of ``shape``, and how many
    predictions each has. ``batches`` are predictions that come at once, by the hour. A worker asks for work ``start``
    seconds after its Job was started.
    """

    name: str
    share: int
    job: Mapping[str, str]
    seconds: float
    busy: float = 0.0
    shape: Shape = lambda _: 1.0
    bursts: tuple[int, int] = (0, 0)
    batches: Mapping[float, int] = field(default_factory=dict)
    start: float = 1.0
    idle: float = 30.0
    quota: Mapping[str, str] = field(default_factory=lambda: CAPACITY)


@dataclass(frozen=True, slots=True, order=True)
class Arrival:
    """A prediction: when it is accepted, seconds since the day began, and for how long it keeps a worker busy."""

    at: float
    seconds: float


def _hill(middle: float, width: float) -> Shape:
    """A peak of so many hours to both sides, at any hour of the clock."""
    return lambda hour: exp(-((((hour - middle + 12) % 24 - 12) / width) ** 2))


def _office(hour: float) -> float:
    return max(0.0, sin((hour - 8) / 10 * pi)) ** 0.5 if 8 <= hour <= 18 else 0.02


def _waking(hour: float) -> float:
    return 0.08 + 0.7 * _hill(11, 3)(hour) + 0.9 * _hill(19, 3)(hour)


def _job(cpu: str, memory: str, gpus: int = 0) -> dict[str, str]:
    return {"cpu": cpu, "memory": memory, "pods": "1", **({"gpus": str(gpus)} if gpus else {})}


SENDERS = (
    Sender("checkout", 4, _job("900m", "512Mi"), 2.0, busy=5, shape=_waking, idle=300),
    Sender("search", 3, _job("900m", "1Gi"), 2.5, busy=3.5, shape=_waking, bursts=(20, 150), idle=60),
    Sender("mobile", 2, _job("800m", "1Gi"), 3.0, busy=3.5, shape=_hill(20, 3), bursts=(15, 200)),
    Sender("research", 5, _job("2", "8Gi", 1), 8.0, busy=1.3, shape=_office, bursts=(8, 40), start=20, idle=120),
    Sender("partners", 1, _job("800m", "1Gi"), 3.0, busy=1, shape=_office, bursts=(12, 300), start=2),
    Sender("moderation", 1, _job("500m", "3Gi"), 3.0, busy=0.6, bursts=(10, 100), start=3, idle=60),
    Sender("support", 1, _job("400m", "512Mi"), 1.0, busy=0.8, shape=_office),
    Sender("archive", 1, _job("800m", "1Gi"), 4.0, batches={22: 30_000}, start=2),
    Sender("reports", 1, _job("1600m", "2Gi"), 10.0, batches={2: 2_000, 13: 600}, start=4),
    Sender("free", 1, _job("800m", "512Mi"), 2.5, busy=2, shape=_waking, bursts=(30, 150), quota={"cpu": "16"}),
)


def part(sender: Sender, senders: tuple[Sender, ...] = SENDERS) -> dict[str, float]:
    """Its part of the capacity, by resource. Only who needs GPUs has a part of those."""

    def weights(resource: str) -> float:
        return sum(each.share for each in senders if resource != "gpus" or resource in each.job)

    return {
        resource: float(parse_quantity(hard)) * sender.share / weights(resource)
        for resource, hard in CAPACITY.items()
        if resource != "gpus" or resource in sender.job
    }


def arrivals(sender: Sender, seed: int, seconds: float = DAY) -> list[Arrival]:
    """What comes in the first ``seconds`` of the day, the same for the same seed."""
    random = Random(f"{seed} {sender.name}")
    bursts, size = sender.bursts
    times: list[float] = []
    for _ in range(bursts):
        at = _moment(sender, random)
        times += [at + random.uniform(0, 5) for _ in range(size)]
    for hour, count in sender.batches.items():
        times += [(hour - FIRST_HOUR) % 24 * 3600 + random.uniform(0, 10) for _ in range(count)]
    middle = sender.seconds / exp(0.5 * 0.5**2)  # of a lognormal distribution with that mean
    times += _steady(sender, random, seconds)
    return [Arrival(at, random.lognormvariate(0, 0.5) * middle) for at in sorted(times) if at < seconds]


def _hour(at: float) -> float:
    return (FIRST_HOUR + at / 3600) % 24


def _steady(sender: Sender, random: Random, seconds: float) -> list[float]:
    """A Poisson process whose rate follows the shape: it is thinned out from one of the highest rate."""
    if not sender.busy:
        return []
    most = max(sender.shape(minute / 60) for minute in range(24 * 60))
    times, at = [], 0.0
    while (at := at + random.expovariate(most * sender.busy / sender.seconds)) < seconds:
        if random.random() < sender.shape(_hour(at)) / most:
            times.append(at)
    return times


def _moment(sender: Sender, random: Random) -> float:
    while True:
        at = random.uniform(0, DAY)
        if random.random() < sender.shape(_hour(at)):
            return at
