"""Says how the tiers divide the capacity, in Jobs. The notes of the chart say the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from server.settings.quantity import parse_quantity
from server.settings.records import Settings

ROUNDING = 1e-6  # of a Job: 3.6 CPUs have room for four times 0.9


def shares(settings: Settings) -> Iterator[str]:
    """Yield a line for each tier, if there is a capacity: its share, and how many Jobs it may have in it and beyond."""
    weights = sum(tier.share for tier in settings.tiers.values())
    for name, tier in settings.tiers.items() if settings.capacity else ():
        one = {"cpu": tier.job.cpu, "memory": tier.job.memory, "pods": "1", "gpus": str(tier.job.gpus)}
        part, most = _fitting(one, settings.capacity, tier.share / weights), _fitting(one, tier.quota)
        if math.isinf(part):
            yield f"{name}: its Jobs use nothing of the capacity"
        else:
            yield (
                f"{name}: share {tier.share} of {weights}, "
                f"Jobs in its part: {min(part, most):.0f}, with what others lend: {most:.0f}"
            )


def _fitting(one: Mapping[str, str], amounts: Mapping[str, str], part: float = 1.0) -> float:
    """How many Jobs that take ``one`` fit into a part of ``amounts``; infinite if they take nothing of it."""
    sizes = {key: float(parse_quantity(one[key])) for key in amounts}
    fits = (float(parse_quantity(amounts[key])) * part / size for key, size in sizes.items() if size)
    return math.floor(least + ROUNDING) if math.isfinite(least := min(fits, default=math.inf)) else least
