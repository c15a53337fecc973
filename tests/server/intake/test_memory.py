"""No tier and no client takes all memory, and each request gets what it may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.intake.memory import Held, Memory, network, shares
from server.problems import Problem

LARGEST = {"free": 80, "premium": 80}


def fill(held: Held, step: int = 1) -> int:
    """Take as much as there is; returns how much that was."""
    with pytest.raises(Problem):
        while True:
            held.take(step)
    return held.size


def test_one_address_leaves_some_for_others_of_its_tier() -> None:
    memory = Memory(192)
    assert fill(memory.hold("free", "10.0.0.1", LARGEST)) == 80
    assert fill(memory.hold("free", "10.0.0.1", LARGEST)) == 0
    assert fill(memory.hold("free", "10.0.0.2", LARGEST)) == 192 - 80 - 80


def test_one_tier_leaves_the_largest_request_for_another() -> None:
    memory = Memory(192)
    for number in range(9):
        fill(memory.hold("free", f"10.0.0.{number}", LARGEST))
    assert memory.used() == 192 - 80
    assert fill(memory.hold("premium", "10.0.0.1", LARGEST)) == 80


def test_what_is_released_is_free_again_and_only_once() -> None:
    memory = Memory(192)
    held = memory.hold("free", "10.0.0.1", LARGEST)
    held.take(50)
    held.release()
    held.release()
    assert memory.used() == 0
    assert fill(memory.hold("free", "10.0.0.1", LARGEST)) == 80


def test_the_problems_tell_the_limit_and_whether_to_come_again() -> None:
    memory = Memory(192)
    with pytest.raises(Problem) as refused:
        memory.hold("free", "10.0.0.1", LARGEST).take(81)
    assert (refused.value.status, refused.value.body["limit_bytes"], refused.value.retry_after) == (413, 80, None)
    memory.hold("free", "10.0.0.1", LARGEST).take(79)
    with pytest.raises(Problem) as refused:
        memory.hold("free", "10.0.0.1", LARGEST).take(2)
    assert (refused.value.status, refused.value.body["limit_bytes"], refused.value.retry_after) == (503, 80, 1)


def test_who_finds_no_place_ends_a_larger_one_of_its_address_or_else_of_its_tier() -> None:
    memory, ended = Memory(192), []

    def begin(name: str, tier: str, address: str, size: int) -> Held:
        held = memory.hold(tier, address, LARGEST, lambda problem: ended.append((name, problem.status)))
        held.take(size)
        return held

    begin("a", "free", "10.0.0.1", 30)
    begin("b", "free", "10.0.0.1", 45)
    begin("c", "free", "10.0.0.2", 37)
    begin("of another tier", "premium", "10.0.0.1", 80)
    begin("d", "free", "10.0.0.1", 6)
    assert ended == [("b", 503)]
    begin("e", "free", "10.0.0.3", 20)
    kept = begin("f", "free", "10.0.0.3", 15)
    kept.keep()
    assert ended == [("b", 503)]
    begin("g", "free", "10.0.0.4", 5)
    assert ended == [("b", 503), ("c", 503)]
    with pytest.raises(Problem):
        begin("largest", "free", "10.0.0.4", 60)
    assert memory.used() == 30 + 6 + 20 + 15 + 5 + 80


def test_what_is_kept_is_not_ended() -> None:
    memory = Memory(100)
    held = memory.hold("free", "10.0.0.1", {"free": 100}, lambda problem: pytest.fail("it was ended"))
    held.take(50)
    held.keep()
    with pytest.raises(Problem):
        memory.hold("free", "10.0.0.1", {"free": 100}).take(51)


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:ffff:1:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("/run/socket", "/run/socket"),
    ],
)
def test_an_ipv6_client_has_many_addresses(address: str, client: str) -> None:
    assert network(address) == client


@given(
    st.integers(1, 1000),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 300), min_size=1),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(1, 400), st.booleans()), max_size=60),
)
def test_whatever_comes_the_rest_of_each_share_is_free(
    most: int, largest: dict[str, int], steps: list[tuple[int, int, int, bool]]
) -> None:
    memory, tiers, requests = Memory(most), sorted(largest), []
    for tier, address, size, stays in steps:
        held = memory.hold(tiers[tier % len(tiers)], str(address), largest, (lambda problem: None) if address else None)
        try:
            held.take(size)
        except Problem as problem:
            assert problem.status in (413, 503)
        if stays:
            requests.append(held)
        else:
            held.release()
    assert memory.used() == sum(held.size for held in requests) <= most
    for held in requests:
        held.release()
    assert memory.used() == 0
    kept = shares(most, largest)
    assert sum(kept.values()) - min(kept.values()) <= most
