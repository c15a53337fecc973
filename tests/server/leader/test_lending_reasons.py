"""What those are told who wait in a tier while others use the capacity.

It could name the wrong tier, say that something comes back which does not, or leave out why a tier has fewer workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from server.leader.lending import Claim
from server.leader.planning import Capacity, Demand, plan
from tests.server.leader.test_lending import claim
from tests.server.leader.test_planning import NOW, demand

WENT_BACK = "lent quota went back to premium"
USED_UP = "capacity cpu: 4 of 4 used by all tiers, a worker takes 1"


def reasons(free: tuple[Claim, Demand], premium: tuple[Claim, Demand]) -> Mapping[str, str]:
    """Why predictions wait in each of two tiers that divide four cores."""
    told = {"free": free, "premium": premium}
    capacity = Capacity({"cpu": 4}, {name: one for name, (one, _) in told.items()})
    return {name: one.reason for name, one in plan(NOW, {name: of for name, (_, of) in told.items()}, capacity).items()}


@pytest.mark.parametrize(
    ("free", "premium", "told"),
    [
        # Free has borrowed everything, and hands back as much as premium's first Job takes.
        (claim(4), claim(), (USED_UP, "workers of free hand back what was lent")),
        # That is under way.
        (claim(4, going=1), claim(), (USED_UP, "room of the capacity comes free")),
        # Free's workers are younger than they must be.
        (claim(4, old=0), claim(), (USED_UP, USED_UP)),
        # Both have their parts.
        (claim(2), claim(2), (USED_UP, USED_UP)),
        # There is room for a Job of free, and premium waits for it.
        (
            claim(3),
            claim(cpu=2),
            ("what is free of the capacity goes to premium", "workers of free hand back what was lent"),
        ),
    ],
)
def test_who_waits_for_the_capacity_is_told_for_what(free: Claim, premium: Claim, told: tuple[str, str]) -> None:
    running = [int(one.used["cpu"] / one.needs["cpu"]) for one in (free, premium)]
    found = reasons(
        (free, demand(queued=9, leased=running[0], running=running[0])),
        (premium, demand(queued=1, leased=running[1], running=running[1])),
    )
    for name, why in zip(("free", "premium"), told, strict=True):
        assert found[name].endswith(why), name


def test_who_waits_where_a_worker_was_recalled_is_told_that() -> None:
    free = replace(demand(queued=9, leased=3, running=3), went_back=WENT_BACK)
    found = reasons((claim(3), free), (claim(1), demand(leased=1, running=1)))
    assert found["free"] == f"3 workers busy; {WENT_BACK}; {USED_UP}"
