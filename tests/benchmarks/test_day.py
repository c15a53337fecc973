"""The simulated day: what is sent follows from the seed, and a planner that breaks a promise is found out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from benchmarks.day import leading
from benchmarks.day.__main__ import PICTURE
from benchmarks.day.drawing import draw, seconds
from benchmarks.day.leading import Leader
from benchmarks.day.outcome import day
from benchmarks.day.promises import YOUNG_SECONDS, Promises
from benchmarks.day.tiers import SENDERS, Arrival, Sender, arrivals
from benchmarks.day.world import TICK_SECONDS, Crew, Worker, World
from server.leader.planning import Capacity, Demand, Plan, plan
from tests.running import ROOT

SVG = "{http://www.w3.org/2000/svg}"
HARD = {"cpu": 4.0}
FREE, PREMIUM = Sender("free", 1, {"cpu": "900m"}, 2.0), Sender("premium", 1, {"cpu": "900m"}, 1.0)
FLOOD = [Arrival(0.001 * number, 2.0) for number in range(200)]
WAVE = [Arrival(20.0 + 0.001 * number, 1.0) for number in range(40)]
SMALL = 200_000  # bytes

Changed = Callable[[Mapping[str, Plan]], dict[str, Plan]]


def run() -> tuple[World, Promises]:
    """A flood of free, and a wave of premium when free has borrowed all."""
    promises = Promises(HARD, {"free": 1, "premium": 1})
    world = World((FREE, PREMIUM), {"free": HARD, "premium": HARD}, Leader(promises).look)
    world.run({"free": FLOOD, "premium": WAVE}, 60.0)
    return world, promises


def sabotaged(monkeypatch: pytest.MonkeyPatch, change: Changed) -> Promises:
    def changed(now: float, demands: Mapping[str, Demand], capacity: Capacity) -> dict[str, Plan]:
        return change(plan(now, demands, capacity))

    monkeypatch.setattr(leading, "plan", changed)
    return run()[1]


def test_what_was_lent_comes_back_and_goes_again_and_nothing_is_lost() -> None:
    world, promises = run()
    free, premium = world.crews["free"], world.crews["premium"]
    assert promises.broken == []
    assert (free.done, premium.done) == (len(FLOOD), len(WAVE))
    assert (free.recalls, premium.recalls) == (2, 0)
    # A worker of free has 2 s of work at most when it is told to go, and one of premium takes 1 s to start.
    assert premium.waits[WAVE[0]] < 2.0 + FREE.start + 2 * TICK_SECONDS
    assert not any(crew.workers for crew in world.crews.values())


def test_a_worker_that_cannot_finish_in_time_hands_its_prediction_back() -> None:
    promises = Promises(HARD, {"free": 1, "premium": 1})
    world = World((FREE, PREMIUM), {"free": HARD, "premium": HARD}, Leader(promises).look)
    world.run({"free": [Arrival(0.0, 100.0 + number) for number in range(8)], "premium": WAVE}, 60.0)
    free = world.crews["free"]
    assert promises.broken == []
    assert (free.done, free.handed_back) == (8, 2)


def test_who_waits_for_nothing_gets_no_worker_recalled() -> None:
    promises = Promises(HARD, {"free": 1, "premium": 1})
    world = World((FREE, PREMIUM), {"free": HARD, "premium": HARD}, Leader(promises).look)
    world.run({"free": FLOOD, "premium": []}, 60.0)
    assert world.crews["free"].recalls == 0
    assert world.crews["free"].starts == 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda plans: {name: replace(one, recalls=()) for name, one in plans.items()}, "nobody above its own"),
        (lambda plans: {name: replace(one, starts=2 * one.starts) for name, one in plans.items()}, "4 cpu are in use"),
        (lambda plans: {name: replace(one, starts=0) for name, one in plans.items()}, "waits beside room"),
    ],
    ids=["no recall", "too many starts", "no start"],
)
def test_a_broken_promise_is_found_out(monkeypatch: pytest.MonkeyPatch, change: Changed, told: str) -> None:
    looks = iter(range(100))  # of those that go wrong: a day without any Job would never end
    promises = sabotaged(monkeypatch, lambda plans: change(plans) if next(looks, None) is not None else dict(plans))
    assert any(told in text for text in promises.broken), promises.broken


def test_a_recalled_worker_that_is_young_or_not_the_newest_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    oldest_first = leading._recallable

    def wrong(crew: Crew, now: float) -> list[Worker]:
        return list(reversed(oldest_first(crew, now + YOUNG_SECONDS)))

    monkeypatch.setattr(leading, "_recallable", wrong)
    texts = " ".join(run()[1].broken)
    assert "was not its newest" in texts


def test_the_same_seed_brings_the_same_predictions() -> None:
    sender = next(each for each in SENDERS if each.name == "research")
    assert arrivals(sender, 1) == arrivals(sender, 1) != arrivals(sender, 2)


def test_two_short_days_are_drawn() -> None:
    lending, alone = (day(1, each, 600.0) for each in (True, False))
    assert lending.promises is not None and lending.promises.broken == []
    assert alone.promises is None
    root = ElementTree.fromstring(draw(lending, alone, "Two mornings"))
    texts = [element.text or "" for element in root.iter(f"{SVG}text")]
    assert {"Two mornings", "With lending", "Quotas alone", "research, share 5"} <= set(texts)


def test_the_picture_of_the_docs_is_small_needs_nothing_and_has_colours_for_dark() -> None:
    text = PICTURE.read_text()
    assert len(text) < SMALL
    assert "prefers-color-scheme:dark" in text
    assert text.count("http") == text.count("http://www.w3.org/2000/svg") == 1
    assert "(pictures/day.svg)" in (ROOT / "docs" / "performance.md").read_text()


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0 s"), (9.96, "10 s"), (119.0, "119 s"), (150.0, "2 min"), (8000.0, "2.2 h")]
)
def test_a_time_is_told_as_people_say_it(value: float, text: str) -> None:
    assert seconds(value) == text
