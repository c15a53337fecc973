"""How the tiers divide the capacity: which Jobs may start, and which workers are recalled for them. Pure.

Weighted max-min fairness by the dominant resource (Ghodsi et al., "Dominant Resource Fairness", NSDI 2011), for Jobs
that cannot be divided. A tier's dominant share is the largest part of the capacity that it uses of any resource, and
its level is that, divided by the part that is its own: at a level of 1 it uses just its part. The tier that would be
on the lowest level with one Job more is first.

A worker is recalled only if the Job that takes its room leaves its tier on a lower level than that from which the
worker goes. So each recall takes away from the highest of the levels that it changes, and no recall is ever undone by
another one while the tiers want the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from server.queue import Lending

Amounts = Mapping[str, float]
"""By resource, in cores, bytes, pods and GPUs."""
ROUNDING = 1e-9  # of a resource's capacity: sums of floats


@dataclass(frozen=True, slots=True)
class Claim:
    """What one tier has, and what it needs."""

    share: float
    """Its weight."""
    needs: Amounts
    """Of one further Job."""
    used: Amounts
    """By all that runs for it."""
    going: Amounts
    """The part of it that becomes free without more being done: its workers end, or have just ended."""
    recallable: Sequence[Amounts] = ()
    """What each of its workers uses that may be recalled; the first one goes first."""
    recalled: int = 0
    """How many of its workers were recalled and have not gone."""


@dataclass(frozen=True, slots=True)
class Portion:
    """What one tier may do now."""

    starts: int = 0
    """How many Jobs may start."""
    awaited: int = 0
    """How many more may, once that is free which others give back."""
    recalled_for: Sequence[str] = ()
    """For each worker that is recalled, the first ones of ``Claim.recallable``: the tier that gets its room.

    It is empty if nobody does, because more is in use than the capacity is.
    """
    room: int | None = None
    """How many Jobs the capacity had room for before any of this; None: any number."""
    limit: str = ""
    """What the capacity lacks for one Job more; empty if it lacks nothing."""


def divide(
    capacity: Amounts, claims: Mapping[str, Claim], wanted: Mapping[str, int], urgent: Mapping[str, int]
) -> dict[str, Portion]:
    """Who may start how many of the Jobs that are ``wanted``, and whose workers are recalled for those ``urgent``."""
    division = _Division(capacity, claims)
    division.shrink()
    left = dict(wanted)
    while any(left.values()):
        name = min((name for name, many in left.items() if many), key=lambda one: (division.next_level(one), one))
        recalls = wanted[name] - left[name] < urgent.get(name, 0)
        left[name] = left[name] - 1 if division.grant(name, recalls=recalls) else 0
    return {name: division.portion(name) for name in claims}


def standing(capacity: Amounts, claims: Mapping[str, Claim]) -> dict[str, Lending]:
    """How each tier stands to its part of the capacity.

    What all of them borrowed is counted as lent by those that use less than their parts, in proportion to that.
    """
    used = {name: min(1.0, _dominant(capacity, claim.used)) for name, claim in claims.items()}
    part = parts(claims)
    borrowed = {name: max(0.0, used[name] - part[name]) for name in claims}
    unused = {name: max(0.0, part[name] - used[name]) for name in claims}
    lent = min(1.0, sum(borrowed.values()) / (sum(unused.values()) or 1.0))
    return {
        name: Lending(
            share=round(part[name], 4),
            used=round(used[name], 4),
            borrowed=round(borrowed[name], 4),
            lent=round(unused[name] * lent, 4),
            recalled=claim.recalled,
        )
        for name, claim in claims.items()
    }


def parts(claims: Mapping[str, Claim]) -> dict[str, float]:
    """Which part of the capacity is whose, from 0 to 1."""
    total = sum(claim.share for claim in claims.values())
    return {name: claim.share / total for name, claim in claims.items()}


class _Division:
    """The state while the capacity is divided: ``kept`` is what each tier has once all is gone that goes."""

    def __init__(self, capacity: Amounts, claims: Mapping[str, Claim]) -> None:
        self._capacity, self._claims = capacity, claims
        self._parts = parts(claims)
        self._kept = {
            name: {each: claim.used.get(each, 0.0) - claim.going.get(each, 0.0) for each in capacity}
            for name, claim in claims.items()
        }
        self._now = {
            each: most - sum(one.used.get(each, 0.0) for one in claims.values()) for each, most in capacity.items()
        }
        self._later = {each: most - sum(one[each] for one in self._kept.values()) for each, most in capacity.items()}
        self._rooms = {name: self._room(claim) for name, claim in claims.items()}
        self._starts, self._awaited = dict.fromkeys(claims, 0), dict.fromkeys(claims, 0)
        self._recalled_for: dict[str, list[str]] = {name: [] for name in claims}

    def next_level(self, name: str) -> float:
        """A tier's level with one Job more."""
        return self._level(name, _sum(self._kept[name], self._claims[name].needs))

    def shrink(self) -> None:
        """Recall workers, from the highest levels, while more is in use than the capacity: it was made smaller."""
        while over := [each for each, free in self._later.items() if free < -self._rounding(each)]:
            counts = {name: len(gone) for name, gone in self._recalled_for.items()}
            able = [name for name, claim in self._claims.items() if self._helps(claim, counts[name], over)]
            if not able:
                return
            self._recall(max(able, key=lambda one: (self._level(one, self._kept[one]), one)), "")

    def grant(self, name: str, *, recalls: bool) -> bool:
        """Give a tier the room for one Job, with ``recalls`` if it takes that; whether it gets it."""
        needs = self._claims[name].needs
        if not self._fits(self._later, needs):
            victims = self._victims(name) if recalls else []
            if not victims:
                return False
            for victim in victims:
                self._recall(victim, name)
        _take(self._later, needs)
        self._kept[name] = _sum(self._kept[name], needs)
        if self._fits(self._now, needs):
            self._starts[name] += 1
        else:
            self._awaited[name] += 1
        _take(self._now, needs)  # what a Job waits for, no other one gets
        return True

    def portion(self, name: str) -> Portion:
        """What a tier got."""
        return Portion(
            self._starts[name],
            self._awaited[name],
            tuple(self._recalled_for[name]),
            self._rooms[name],
            self._limit(self._claims[name].needs),
        )

    def _victims(self, name: str) -> list[str]:
        """The tiers of the workers that are recalled so that one Job of ``name`` fits; none if no recall is fair.

        A tier is in it once for each worker. Each of them is necessary.
        """
        needs = self._claims[name].needs
        after = self.next_level(name)
        later, kept = dict(self._later), {one: dict(amounts) for one, amounts in self._kept.items()}
        counts = {one: len(gone) for one, gone in self._recalled_for.items()}
        chosen: list[tuple[str, Amounts]] = []
        while not self._fits(later, needs):
            lacking = [each for each in later if needs.get(each, 0.0) > later[each] + self._rounding(each)]
            best, highest = "", after * (1 + ROUNDING)
            for one, claim in self._claims.items():
                level = self._level(one, kept[one])
                if one != name and level > highest and self._helps(claim, counts[one], lacking):
                    best, highest = one, level
            if not best:
                return []
            amounts = self._claims[best].recallable[counts[best]]
            counts[best] += 1
            chosen.append((best, amounts))
            _take(kept[best], amounts)
            _add(later, amounts)
        return self._necessary(chosen, later, needs)

    def _level(self, name: str, used: Amounts) -> float:
        return _dominant(self._capacity, used) / self._parts[name]

    def _helps(self, claim: Claim, gone: int, lacking: Iterable[str]) -> bool:
        """Whether the next worker to be recalled of a tier has something of what is lacking."""
        return gone < len(claim.recallable) and any(claim.recallable[gone].get(each, 0.0) > 0 for each in lacking)

    def _necessary(self, chosen: Sequence[tuple[str, Amounts]], later: dict[str, float], needs: Amounts) -> list[str]:
        """Leave out what turned out not to be necessary; of each tier the workers that were chosen last."""
        spared: set[int] = set()
        for index in reversed(range(len(chosen))):
            tier, amounts = chosen[index]
            last = all(other != tier or place in spared for place, (other, _) in enumerate(chosen) if place > index)
            if last and self._fits(without := {each: later[each] - amounts.get(each, 0.0) for each in later}, needs):
                spared.add(index)
                later = without
        return [tier for index, (tier, _) in enumerate(chosen) if index not in spared]

    def _recall(self, victim: str, name: str) -> None:
        amounts = self._claims[victim].recallable[len(self._recalled_for[victim])]
        self._recalled_for[victim].append(name)
        _take(self._kept[victim], amounts)
        _add(self._later, amounts)

    def _room(self, claim: Claim) -> int | None:
        rooms = [
            int((self._now[each] + self._rounding(each)) / one)
            for each in self._capacity
            if (one := claim.needs.get(each, 0.0)) > 0
        ]
        return max(0, min(rooms)) if rooms else None

    def _limit(self, needs: Amounts) -> str:
        for each, most in self._capacity.items():
            used = sum(claim.used.get(each, 0.0) for claim in self._claims.values())
            if (one := needs.get(each, 0.0)) > most - used + self._rounding(each):
                return f"capacity {each}: {used:g} of {most:g} used by all tiers, a worker takes {one:g}"
        return ""

    def _fits(self, free: Amounts, needs: Amounts) -> bool:
        needed = ((each, needs.get(each, 0.0)) for each in self._capacity)
        return all(one <= free[each] + self._rounding(each) for each, one in needed if one > 0)

    def _rounding(self, resource: str) -> float:
        return ROUNDING * self._capacity[resource]


def _dominant(capacity: Amounts, used: Amounts) -> float:
    """The largest part that is used of any resource; infinite if something is used of which there is nothing."""
    amounts = ((used.get(each, 0.0), most) for each, most in capacity.items())
    return max((amount / most if most else math.inf for amount, most in amounts if amount > 0), default=0.0)


def _sum(one: Amounts, other: Amounts) -> dict[str, float]:
    return {each: amount + other.get(each, 0.0) for each, amount in one.items()}


def _take(free: dict[str, float], amounts: Amounts) -> None:
    for each in free:
        free[each] -= amounts.get(each, 0.0)


def _add(free: dict[str, float], amounts: Amounts) -> None:
    for each in free:
        free[each] += amounts.get(each, 0.0)
