"""What each tier has of the capacity now, and what comes free of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from server.engines.base import GPUS, Room
from server.leader.jobs import Crews
from server.leader.lending import Amounts, Claim
from server.settings.quantity import parse_quantity
from server.settings.records import Tier

GONE_SECONDS = 15.0  # how long the pod of a Job that has ended may still count in a quota


class Claiming:
    """Works for one thread. ``clock`` gives epoch seconds. It remembers which Jobs it saw, and when one last ended."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[str, set[str]] = {}
        self._ended_at: dict[str, float] = {}

    def claim(self, tier: Tier, crews: Crews, room: Room, needs: Amounts) -> Claim:
        """The claim of a tier whose next Job ``needs`` so much.

        More may be in use than its Jobs take: by pods of Jobs that have just ended, whose room comes free.
        """
        now, names = self._clock(), {one.name for one in crews.all}
        if self._seen.get(tier.name, set()) - names:
            self._ended_at[tier.name] = now
        self._seen[tier.name] = names
        takes = {one.name: amounts(one.needs) if one.needs else needs for one in crews.all}
        known = _total(takes.values())
        used = known | {name: max(usage.used, known.get(name, 0.0)) for name, usage in room.quota.items()}
        going = _total(takes[one.name] for one in crews.leaving)
        if now - self._ended_at.get(tier.name, -GONE_SECONDS) < GONE_SECONDS:
            going = {name: going.get(name, 0.0) + used[name] - known.get(name, 0.0) for name in used}
        recallable = [takes[one.name] for one in crews.main.recallable(now)]
        return Claim(tier.share, needs, used, going, recallable, len(crews.recalled))


def unseen(tier: Tier, jobs: int) -> Claim:
    """The claim of a tier that cannot be looked at: so many Jobs of it are known, and it gets none now."""
    job = tier.job
    needs = amounts({"cpu": job.cpu, "memory": job.memory, "pods": "1", GPUS: str(job.gpus)})
    return Claim(tier.share, needs, {name: jobs * one for name, one in needs.items()}, {})


def amounts(quantities: Mapping[str, str]) -> dict[str, float]:
    """Quantities as numbers: cores, bytes, pods and GPUs."""
    return {name: float(parse_quantity(text)) for name, text in quantities.items()}


def _total(parts: Iterable[Amounts]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, amount in part.items():
            total[name] = total.get(name, 0.0) + amount
    return total
