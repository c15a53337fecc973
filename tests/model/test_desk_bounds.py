"""The worker's desk under any order of events: its bounds hold, and no result is forgotten."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from model.desk import Desk
from model.messages import Lease, News
from model.terms import AHEAD_MOST, HELD_MOST, Terms
from tests.model.test_desk import Clock, arrived, begin, ids, result

STEPS = st.lists(
    st.sampled_from(["give", "burst", "begin", "finish", "settle", "lose", "send", "again", "wait"]), max_size=80
)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.sampled_from([1.0, 20.0, 60.0, 500.0]), st.integers(1, 200), st.sampled_from([1, 2, 32, 256]))
def test_whatever_happens_the_bounds_hold_and_no_result_is_forgotten(
    steps: list[str], pace: float, most: int, batch: int
) -> None:
    clock = Clock()
    desk = Desk(Terms(idle=1e9, max_predictions=most, max_pixels=1, batch=batch), clock)
    credit, number = desk.open()["credits"], 0
    under_way: list[Lease] = []
    finished: set[str] = set()
    settled: set[str] = set()
    for step in steps:
        match step:
            case "give" if credit:
                credit -= 1
                desk.take(arrived(number))
                number += 1
            case "burst":
                desk.take(arrived(*range(number, number + credit)))
                number, credit = number + credit, 0
            case "begin" if desk._todo and len(under_way) < batch:
                under_way.append(begin(desk))
            case "finish" if under_way:
                one = under_way.pop()
                desk.finish(result(one, pace))
                finished.add(one.id)
            case "settle" | "again" if finished - settled:
                one_id = min(finished - settled)
                desk.take(News(outcomes=[(one_id, "accepted" if step == "settle" else "again")]))
                settled |= {one_id} if step == "settle" else set()
            case "lose":
                desk.lose()
                message = desk.open()
                credit = message.get("credits", 0)
                assert set(ids(message)) == finished - settled
                assert len(message["renew"]) <= HELD_MOST
            case "send":
                credit += desk.message().get("credits", 0)
            case "wait":
                clock.now += 0.1
        assert credit <= (AHEAD_MOST if batch == 1 else min(HELD_MOST, 2 * batch))
        assert len(desk._names()) + credit <= HELD_MOST
        assert number + credit <= most
        assert set(desk._unsettled) == finished - settled
