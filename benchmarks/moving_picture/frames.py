"""What the picture shows at one moment, five times a second."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.moving_picture.run import FREE, PREMIUM, Recording

T = TypeVar("T")

STEP = 0.2
ABSENT, PLACE, STARTING, BUSY, IDLE = "absent", "place", "starting", "busy", "idle"
STATES = {"starting": STARTING, "busy": BUSY, "idle": IDLE, "leaving": IDLE}


@dataclass(frozen=True, slots=True)
class Lane:
    """A tier. ``oldest`` is for how many seconds the first in line has waited; ``slots`` are the places of workers."""

    queued: int
    predicting: int
    done: int
    oldest: float | None
    quota: int
    slots: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Frame:
    """One moment: seconds since the run began, and what happens then."""

    at: float
    act: str
    lanes: dict[str, Lane]


def frames(recording: Recording) -> list[Frame]:
    """All moments of a run. A worker keeps its place as long as it lives."""
    count = int((recording.ended - recording.began) / STEP)
    moments = [recording.began + number * STEP for number in range(count + 1)]
    seen = {tier: _lanes(recording, tier, moments) for tier in (FREE, PREMIUM)}
    found = []
    for number, moment in enumerate(moments):
        lanes = {tier: seen[tier][number] for tier in seen}
        found.append(Frame(round(number * STEP, 3), _latest(recording.acts, moment) or "", lanes))
    return found


def _latest(told: list[tuple[float, T]], moment: float) -> T | None:
    number = bisect_right(told, moment, key=lambda one: one[0])
    return told[number - 1][1] if number else None


def _lanes(recording: Recording, tier: str, moments: list[float]) -> list[Lane]:
    looks = [(at, look[tier]) for at, look in recording.looks]
    passages = [passage for passage in recording.passages if passage.tier == tier]
    hard = [int(look["quota"]["pods"]["hard"]) for _, look in looks if "pods" in look["quota"]]
    places = max([*hard, *(len(look["jobs"]) for _, look in looks)])
    crew: list[str | None] = [None] * places
    lanes, quota = [], hard[0]
    for moment in moments:
        look = _latest(looks, moment) or looks[0][1]
        if "pods" in look["quota"]:
            quota = int(look["quota"]["pods"]["hard"])
        states = {job["name"]: STATES[job["state"]] for job in look["jobs"]}
        crew = [name if name in states else None for name in crew]
        for name in states:
            if name not in crew:
                crew[crew.index(None)] = name
        slots = tuple(
            states[name] if name is not None else PLACE if number < quota else ABSENT
            for number, name in enumerate(crew)
        )
        waiting = [one.created for one in passages if one.created <= moment < one.started]
        done = sum(one.completed <= moment for one in passages)
        oldest = moment - min(waiting) if waiting else None
        predicting = sum(one.started <= moment < one.completed for one in passages)
        lanes.append(Lane(len(waiting), predicting, done, oldest, quota, slots, look["reason"]))
    return lanes
