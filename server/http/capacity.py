"""What the Jobs of all tiers together use of the capacity."""

from __future__ import annotations

import math
from collections.abc import Mapping

from server.queue import NEVER_SEEN, TierView
from server.settings.quantity import Usage, parse_quantity
from server.settings.records import Settings

DIGITS = 6  # after the point: 0.1 + 0.2 is to be 0.3


def usage_of_capacity(settings: Settings, views: Mapping[str, TierView]) -> dict[str, Usage]:
    """Return the usage of each resource of the capacity, empty without one; ``views`` are what the leader last saw.

    What is used is the sum over the tiers, of what the leader saw of each one's quota.
    """
    seen = [views.get(name, NEVER_SEEN).quota for name in settings.tiers]

    def used(resource: str) -> float:
        return round(math.fsum(quota[resource].used for quota in seen if resource in quota), DIGITS)

    return {name: Usage(float(parse_quantity(most)), used(name)) for name, most in settings.capacity.items()}
