"""How often each address may ask."""

from __future__ import annotations

from server.http.rates import MOST_ADDRESSES, Rates
from tests.server.given import HandClock


def taken(rates: Rates, address: str, tries: int) -> int:
    return sum(rates.take(address) for _ in range(tries))


def test_each_address_has_its_own_burst_and_its_own_rate() -> None:
    clock = HandClock()
    rates = Rates(5, 2, clock)
    assert (taken(rates, "a", 9), taken(rates, "b", 9)) == (5, 5)
    clock.now += 1
    assert (taken(rates, "a", 9), taken(rates, "a", 9)) == (2, 0)
    clock.now += 1000
    assert taken(rates, "a", 9) == 5


def test_what_is_refused_costs_nothing() -> None:
    clock = HandClock()
    rates = Rates(1, 1, clock)
    for _ in range(10):
        clock.now += 0.25
        rates.take("a")
    clock.now += 1
    assert rates.take("a")


def test_the_addresses_that_are_remembered_are_bounded() -> None:
    rates = Rates(1, 1, HandClock())
    for number in range(2 * MOST_ADDRESSES):
        assert rates.take(str(number))
    assert not rates.take(str(2 * MOST_ADDRESSES - 1))
    assert rates.take("0")
