"""The plan for a tier, which follows from figures alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.engines.base import Room
from server.leader.lending import Claim
from server.leader.planning import Capacity, Demand, Plan, breaker_seconds, lanes, obstacle, plan
from server.queue import Breaker, Depth, Lane, Strikes

NOW = 100.0
FULL = "quota cpu: 2 of 2 used, a worker takes 1"
WELL = Strikes(0, "", None)
STRUCK = Strikes(3, "no model", NOW - 1)


def demand(
    queued: int = 0,
    leased: int = 0,
    waited: float = 0.0,
    starting: int = 0,
    running: int = 0,
    room: int = 5,
    pace: int = 1,
    strikes: Strikes = WELL,
    held_up: str = "",
    *,
    proving: bool = False,
    seconds: float | None = None,
) -> Demand:
    depth = Depth(queued, leased, NOW - waited if queued else None)
    return Demand(
        depth=depth,
        room=Room(jobs=room, reason=FULL, quota={}),
        strikes=strikes,
        running=running,
        starting=starting,
        held_up=held_up,
        pace=pace,
        proving=proving,
        seconds=seconds,
    )


@pytest.mark.parametrize(
    ("queued", "leased", "waited", "starting", "running", "room", "pace", "starts"),
    [
        (0, 0, 0, 0, 0, 5, 1, 0),  # nothing to do
        (1, 0, 0, 0, 0, 5, 1, 1),
        (9, 0, 0, 0, 0, 5, 1, 1),  # slow start: one at first
        (9, 0, 0, 1, 1, 5, 2, 2),
        (9, 0, 0, 3, 3, 2, 4, 2),  # limited by the room
        (9, 0, 0, 0, 5, 0, 4, 0),  # no room
        (1, 0, 0, 1, 1, 5, 1, 0),  # the starting worker will take it
        (2, 0, 0, 1, 1, 5, 1, 1),
        (1, 0, 0, 0, 1, 5, 1, 0),  # the idle worker will take it
        (1, 0, 2, 0, 1, 5, 1, 1),  # the idle worker has not taken it in time, so it must hang
        (1, 1, 0, 0, 1, 5, 1, 1),  # the only worker is busy
        (1, 4, 0, 0, 2, 5, 1, 1),  # both workers are busy with more than one
    ],
)
def test_one_tier(
    queued: int, leased: int, waited: float, starting: int, running: int, room: int, pace: int, starts: int
) -> None:
    asked = demand(queued, leased, waited, starting, running, room, pace)
    assert plan(NOW, {"free": asked})["free"].starts == starts


def test_a_worker_that_has_just_begun_to_ask_does_not_hang_however_long_the_prediction_waited_for_it() -> None:
    asked = demand(queued=1, waited=5, running=2)
    assert plan(NOW, {"free": replace(asked, fresh=1)})["free"].starts == 0
    assert plan(NOW, {"free": replace(asked, depth=replace(asked.depth, queued=2), fresh=1)})["free"].starts == 1
    assert plan(NOW, {"free": asked})["free"].starts == 1


@pytest.mark.parametrize(
    ("asked", "planned"),
    [
        (demand(), Plan(0, "")),
        (demand(held_up="ErrImagePull"), Plan(0, "")),
        (demand(queued=1), Plan(1, "a worker is starting")),
        (demand(queued=1, room=0), Plan(0, f"no worker runs; {FULL}")),
        (demand(queued=3, leased=1, running=1, room=0), Plan(0, f"1 worker busy; {FULL}")),
        (demand(queued=3, leased=2, running=2, room=0), Plan(0, f"2 workers busy; {FULL}")),
        (
            demand(queued=1, starting=1, running=1, held_up="ErrImagePull"),
            Plan(0, "a worker is starting: ErrImagePull"),
        ),
        (demand(queued=9, pace=4, strikes=Strikes(2, "exit code 1", NOW)), Plan(4, "a worker is starting")),
        (
            demand(queued=9, strikes=Strikes(3, "exit code 1", NOW - 4)),
            Plan(
                0,
                "the last 3 workers ended without taking work; the next one starts in 6 s; "
                "the last one said: exit code 1",
                healthy=False,
                breaker=Breaker(3, NOW + 6),
            ),
        ),
        (  # after the rest one is tried
            demand(queued=9, pace=4, strikes=Strikes(3, "exit code 1", NOW - 10)),
            Plan(1, "a worker is starting", healthy=False, breaker=Breaker(3, NOW)),
        ),
        (demand(strikes=Strikes(3, "exit code 1", NOW - 10)), Plan(0, "", healthy=False, breaker=Breaker(3, NOW))),
    ],
)
def test_why_it_waits_and_how_it_is(asked: Demand, planned: Plan) -> None:
    assert plan(NOW, {"free": asked}) == {"free": planned}


@pytest.mark.parametrize(
    ("demands", "starts"),
    [
        ({}, {}),
        ({"free": demand(), "premium": demand()}, {"free": 0, "premium": 0}),
        ({"free": demand(queued=9, pace=2), "premium": demand()}, {"free": 2, "premium": 0}),
        ({"free": demand(queued=9, room=0), "premium": demand(queued=1)}, {"free": 0, "premium": 1}),
        (
            {
                "free": demand(queued=9, strikes=Strikes(4, "exit code 1", NOW)),
                "premium": demand(queued=9, leased=3, running=3, pace=8),
                "batch": demand(queued=3, starting=2, running=2, pace=2),
            },
            {"free": 0, "premium": 5, "batch": 1},
        ),
    ],
)
def test_several_tiers(demands: dict[str, Demand], starts: dict[str, int]) -> None:
    assert {name: one.starts for name, one in plan(NOW, demands).items()} == starts


def test_breaker_seconds_are_bounded() -> None:
    assert [breaker_seconds(strikes) for strikes in (0, 2, 3, 4, 50)] == [0, 0, 10, 20, 300]


@pytest.mark.parametrize(
    ("case", "main", "beside", "starts", "crowded"),
    [
        ("nothing waits", demand(), demand(), (0, 0), False),
        ("each for its own", demand(1), demand(1), (1, 1), False),
        ("a first worker shows that it works", demand(), demand(proving=True), (0, 1), False),
        ("one is enough for that", demand(), demand(proving=True, running=1, starting=1), (0, 0), False),
        ("the main one first", demand(1, room=1), demand(1, room=1), (1, 0), False),
        ("a place is kept", demand(9, 3, running=3, room=2, pace=4), demand(room=2), (1, 0), False),
        ("and used", demand(9, 3, running=3, room=2, pace=4), demand(1, room=2), (1, 1), False),
        ("none is kept for two", demand(9, 3, running=3, room=2, pace=4), demand(running=1, room=2), (2, 0), False),
        (
            "nor while it rests",
            demand(9, 3, running=3, room=2, pace=4),
            demand(1, room=2, strikes=STRUCK),
            (2, 0),
            False,
        ),
        ("one of two makes room", demand(9, 2, running=2, room=0), demand(1, room=0), (0, 0), True),
        ("also for a proof", demand(9, 2, running=2, room=0), demand(room=0, proving=True), (0, 0), True),
        ("not the only one", demand(9, 1, running=1, room=0), demand(1, room=0), (0, 0), False),
        ("not for nothing", demand(9, 2, running=2, room=0), demand(room=0), (0, 0), False),
        ("not for a second", demand(9, 2, running=2, room=0), demand(2, 1, running=1, room=0), (0, 0), False),
        ("nor while it rests", demand(9, 2, running=2, room=0), demand(1, room=0, strikes=STRUCK), (0, 0), False),
    ],
)
def test_two_models_share_the_room(
    case: str, main: Demand, beside: Demand, starts: tuple[int, int], crowded: bool
) -> None:
    planned = plan(NOW, {"free": replace(main, canary=beside)})["free"]
    assert planned.canary is not None
    assert (planned.starts, planned.canary.starts) == starts, case
    assert planned.crowded is crowded, case


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        (demand(1), ""),
        (demand(proving=True, running=1), ""),
        (demand(proving=True), "no worker of it has asked for work yet"),
        (
            demand(proving=True, running=1, starting=1, held_up="no node"),
            "no worker of it has asked for work yet: no node",
        ),
        (demand(1, strikes=STRUCK), "the last 3 workers ended without taking work; the last one said: no model"),
        (demand(1, strikes=STRUCK, running=1), ""),
        (demand(1, room=0), "there is no room for a worker of it"),
        (demand(1, room=0, running=1, starting=1), ""),
    ],
)
def test_why_a_canary_gets_nothing(beside: Demand, said: str) -> None:
    assert obstacle(beside) == said


def test_what_waits_is_split_by_model() -> None:
    whole = Depth(5, 3, 10.0, 1000, Lane(2, 1, 12.0))
    assert lanes(whole) == (Depth(3, 2, 10.0), Depth(2, 1, 12.0))
    assert lanes(replace(whole, oldest=12.0))[0].oldest is None, "of the two the table tells one"
    assert lanes(replace(whole, canary=None)) == (replace(whole, canary=None), Depth(0, 0, None))


def test_a_tier_whose_workers_are_of_no_use_tells_what_helps() -> None:
    asked = replace(demand(1, strikes=STRUCK), remedy="tierserve model rollback free")
    assert plan(NOW, {"free": asked})["free"].reason.endswith("said: no model; tierserve model rollback free")


CORE = {"cpu": 1.0}


def capacity(free: int, premium: int, recalled: int = 0) -> Capacity:
    """Four cores, for tiers with so many workers."""
    claims = {
        "free": Claim(1, CORE, {"cpu": free}, {"cpu": recalled}, [CORE] * (free - recalled), recalled),
        "premium": Claim(1, CORE, {"cpu": premium}, {}, [CORE] * premium),
    }
    return Capacity({"cpu": 4.0}, claims)


def test_lent_quota_goes_back_and_everybody_is_told() -> None:
    demands = {"free": demand(queued=9, leased=4, running=4), "premium": demand(queued=1)}
    planned = plan(NOW, demands, capacity(4, 0))
    assert planned["free"].recalls == ("lent quota went back to premium",)
    assert planned["premium"].starts == 0
    assert planned["premium"].reason == "no worker runs; workers of free hand back what was lent"
    demands["free"] = demand(queued=9, leased=3, running=3)
    demands["free"] = replace(demands["free"], went_back=planned["free"].recalls[0])
    planned = plan(NOW, demands, capacity(4, 0, recalled=1))
    assert (planned["free"].recalls, planned["free"].starts) == ((), 0)
    lacks = "capacity cpu: 4 of 4 used by all tiers, a worker takes 1"
    assert planned["free"].reason == f"3 workers busy; lent quota went back to premium; {lacks}"
    planned = plan(NOW, demands, capacity(3, 0))
    assert planned["premium"] == Plan(1, "a worker is starting", room=1)
    free_goes_to = "what is free of the capacity goes to premium"
    assert planned["free"].reason == f"3 workers busy; lent quota went back to premium; {free_goes_to}"


@pytest.mark.parametrize(
    ("premium", "recalls"),
    [
        (demand(queued=9, leased=1, running=1), 0),  # how long that takes is not known
        (demand(queued=9, leased=1, running=1, seconds=0.1), 0),  # its worker will be done in a moment
        (demand(queued=90, leased=1, running=1, seconds=0.1), 1),
        (demand(queued=90, leased=1, running=1, seconds=0.1, pace=4), 1),  # then both have what is theirs
        (demand(queued=1, leased=1, running=1, seconds=2), 1),
        (demand(queued=1, leased=1, running=1, waited=0.9, seconds=0.1), 0),
        (demand(queued=1, leased=1, running=1, waited=1.2, seconds=0.1), 1),  # its worker does not come to it
        (demand(queued=1), 1),  # it has none
        (demand(queued=4, pace=4), 1),  # the first one may do
        (demand(queued=15, pace=4, seconds=0.1), 2),
        (demand(queued=9, running=1, starting=1, waited=5), 0),  # its first one comes
        (demand(queued=9, running=1, starting=1, seconds=1), 1),
        (demand(queued=9, room=0), 0),  # its quota has no room
        (demand(queued=9, strikes=Strikes(3, "exit code 1", NOW - 4)), 0),  # its workers are of no use
    ],
)
def test_who_gets_lent_quota_back(premium: Demand, recalls: int) -> None:
    demands = {"free": demand(queued=9, leased=4, running=4), "premium": premium}
    assert len(plan(NOW, demands, capacity(4 - premium.running, premium.running))["free"].recalls) == recalls


def test_a_smaller_capacity_is_told_as_the_reason() -> None:
    planned = plan(NOW, {"free": demand(), "premium": demand()}, Capacity({"cpu": 3.0}, capacity(4, 0).claims))
    assert planned["free"].recalls == ("more was in use than the capacity",)


def test_a_first_worker_of_the_canary_comes_before_another_one_of_the_main_model() -> None:
    tier = replace(demand(queued=9, leased=1, running=1, pace=4), canary=demand(proving=True))
    claims = {"free": Claim(1, CORE, {"cpu": 1.0}, {}, [CORE])}
    planned = plan(NOW, {"free": tier}, Capacity({"cpu": 2.0}, claims))["free"]
    assert planned.canary is not None
    assert (planned.starts, planned.canary.starts, planned.crowded) == (0, 1, False)
    full = replace(tier, running=2, depth=Depth(9, 2, NOW))
    claims = {"free": Claim(1, CORE, {"cpu": 2.0}, {}, [CORE] * 2)}
    planned = plan(NOW, {"free": full}, Capacity({"cpu": 2.0}, claims))["free"]
    assert planned.canary is not None
    assert (planned.starts, planned.canary.starts, planned.crowded) == (0, 0, True)
