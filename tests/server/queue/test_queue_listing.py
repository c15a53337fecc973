"""The list of an owner's predictions: all of them and nobody else's, the newest first, on every database."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.queue import Prediction, Status
from tests.server.queue.queue_world import World

OWNERS, TIERS = ("anna", "bert"), ("free", "premium")


def listed(world: World, owner: str = "anna", limit: int = 100, **asked: Any) -> list[Prediction]:
    return world.queue.listing(owner, limit, **asked).result()


def ids(found: list[Prediction]) -> list[str]:
    return [one.id for one in found]


def paged(world: World, owner: str, limit: int, **asked: Any) -> list[str]:
    """All pages, one after another."""
    found: list[Prediction] = []
    while page := listed(world, owner, limit, after=after(found), **asked):
        assert len(page) <= limit
        assert len(found) < 1000  # it does not begin anew
        found += page
    return ids(found)


def after(shown: list[Prediction]) -> tuple[float, str] | None:
    return (shown[-1].accepted_at, shown[-1].id) if shown else None


def submitted(world: World, many: int, **changes: Any) -> list[str]:
    made = []
    for _ in range(many):
        world.clock.advance(1)
        made.append(world.submit(**changes))
    return made


def test_the_newest_comes_first_in_whatever_tier_and_state(world: World) -> None:
    made = [submitted(world, 1, tier=tier)[0] for tier in ("free", "premium", "free", "gone", "premium")]
    world.queue.cancel(made[1]).result()
    world.job()
    world.lease(most=1)
    found = listed(world)
    assert ids(found) == made[::-1]
    assert [one.status for one in found] == ["queued", "queued", "queued", "canceled", "leased"]


def test_a_list_has_what_a_reader_sees_but_the_results(world: World) -> None:
    (made,) = submitted(world, 1)
    world.job()
    world.complete(world.lease()[0])
    (found,) = listed(world)
    assert world.get(made).results is not None
    assert found.results is None
    assert (found.status, found.predict_ms, found.completed_at) == (Status.SUCCEEDED, 8.0, world.clock.now)


def test_nobody_sees_what_another_has_and_nobody_what_came_without_a_key(world: World) -> None:
    own, others = submitted(world, 2), submitted(world, 2, owner="bert")
    submitted(world, 2, owner="anonymous")
    assert ids(listed(world)) == own[::-1]
    assert ids(listed(world, "bert")) == others[::-1]
    assert listed(world, "anonymous") == listed(world, "nobody") == []


def test_a_cursor_of_another_owner_s_prediction_shows_nothing_of_it(world: World) -> None:
    other, own = world.submit(owner="bert"), world.submit()
    assert ids(listed(world, after=(world.clock.now, other))) == [own]


def test_filters_by_tier_state_and_time(world: World) -> None:
    free = submitted(world, 2)
    premium = submitted(world, 2, tier="premium")
    world.queue.cancel(free[0]).result()
    assert ids(listed(world, tiers=["free"])) == free[::-1]
    assert ids(listed(world, tiers=["premium", "free"], statuses=[Status.QUEUED])) == [*premium[::-1], free[1]]
    assert ids(listed(world, statuses=[Status.CANCELED, Status.FAILED])) == [free[0]]
    assert ids(listed(world, since=world.clock.now - 1)) == premium[::-1]
    assert listed(world, tiers=["none"]) == []


def test_those_of_the_same_moment_are_all_on_some_page(world: World) -> None:
    made = [world.submit(tier=tier) for tier in TIERS * 5]
    assert paged(world, "anna", 3) == made[::-1]


def test_pages_stay_as_they_are_while_predictions_come_and_end(world: World) -> None:
    made = submitted(world, 6)
    first = listed(world, limit=2)
    submitted(world, 3)
    world.queue.cancel(made[3]).result()
    rest = listed(world, after=after(first))
    assert ids(first) + ids(rest) == made[::-1]


def test_a_list_goes_on_behind_a_prediction_that_is_no_longer_kept(world: World) -> None:
    made = submitted(world, 5)
    first = listed(world, limit=2)
    world.queue.cancel(first[-1].id).result()
    world.clock.advance(100)
    world.queue.purge({"free": 1}).result()
    assert ids(listed(world, after=after(first))) == made[2::-1]


class Many(World):
    """A world with a few hundred predictions of two owners, many of them of the same moment."""

    def start(self) -> None:
        super().start()
        made: list[str] = []
        chosen = random.Random(7)
        self.job()
        self.job("other", "premium")
        for _ in range(200):
            self.clock.advance(chosen.choice((0.0, 0.0, 0.25)))
            made.append(self.submit(owner=chosen.choice(OWNERS), tier=chosen.choice(TIERS)))
            if chosen.random() < 0.3:
                self.queue.cancel(made[-1]).result()
            elif chosen.random() < 0.2:
                self.lease(most=1)
        self.made = [self.get(one) for one in made]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Many]:
    with Many(tmp_path_factory.mktemp("many")) as world:
        yield world


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    owner=st.sampled_from(OWNERS),
    limit=st.integers(1, 60),
    tiers=st.none() | st.sets(st.sampled_from(TIERS), min_size=1),
    statuses=st.sets(st.sampled_from(Status), min_size=1),
    since=st.floats(0, 40),
)
def test_all_pages_together_are_every_prediction_that_was_asked_for(
    many: Many, owner: str, limit: int, tiers: set[str] | None, statuses: set[Status], since: float
) -> None:
    began = 1_800_000_000.0 + since
    wanted = [
        one.id
        for one in reversed(many.made)
        if one.owner == owner and one.tier in (tiers or TIERS) and one.status in statuses
        if one.accepted_at >= began
    ]
    assert paged(many, owner, limit, tiers=tiers, statuses=statuses, since=began) == wanted
