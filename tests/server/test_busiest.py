"""The busiest owners are found among any number, with bounded memory."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from server.metrics import MOST_OWNERS, PERIOD_SECONDS, SHOWN_OWNERS, Busiest
from tests.server.given import HandClock


@given(st.lists(st.tuples(st.sampled_from("abcdefghijklmnop"), st.floats(0, 3 * PERIOD_SECONDS))))
def test_they_are_those_of_the_last_five_to_ten_minutes(came: list[tuple[str, float]]) -> None:
    clock = HandClock(100.0)
    busiest, at = Busiest(clock), list[tuple[str, float]]()
    for owner, pause in came:
        clock.advance(pause)
        busiest.add(owner)
        at.append((owner, clock()))
    shown = busiest.owners()
    assert len(shown) <= SHOWN_OWNERS
    lately = Counter(owner for owner, when in at if when > clock() - PERIOD_SECONDS)
    longer = Counter(owner for owner, when in at if when > clock() - 2 * PERIOD_SECONDS)
    assert all(lately[owner] <= count <= longer[owner] for owner, count in shown.items())
    least = min(shown.values(), default=0) if len(shown) == SHOWN_OWNERS else 0
    assert all(count <= least for owner, count in lately.items() if owner not in shown)


def test_any_number_of_owners_takes_bounded_memory() -> None:
    busiest = Busiest(HandClock())
    for number in range(2 * MOST_OWNERS):
        busiest.add(str(number))
    busiest.add("0")
    assert len(busiest._now) == MOST_OWNERS
    assert busiest.owners()["0"] == 2
