"""The limits of a caller, at one server and at several that tell each other what they let in."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.access.limits import DAY_SECONDS, FRESH_SECONDS, Limits
from server.queue import Use, Used
from server.settings.records import CallerLimits
from tests.server.given import HandClock

TELLING_SECONDS = 0.5
WHO = ("free", "owner:anna")
RATE = CallerLimits(per_second=20, burst=10)
DAY = CallerLimits(per_day=10_000)

limits_of_rate = st.builds(CallerLimits, per_second=st.sampled_from([0.5, 1, 7, 20, 100]), burst=st.integers(0, 50))


class Servers:
    """Some servers with one clock, and the table of what they told."""

    def __init__(self, many: int = 1, most: int = 100) -> None:
        self.clock = HandClock()
        self.servers = [Limits(self.clock, most) for _ in range(many)]
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.pictures: Counter[tuple[str, str, int]] = Counter()
        self.told: list[Use] = []

    def tell(self) -> None:
        """Each server tells the table what it let in, and learns what all did."""
        for server in self.servers:
            while uses := server.due(3):
                for use in uses:
                    server.learn(use, self.add(use))

    def add(self, use: Use) -> Used:
        row = (use.tier, use.caller, use.day)
        self.requests[row] += use.requests
        self.pictures[row] += use.pictures
        self.told.append(use)
        return Used(self.requests[row], self.pictures[row])

    def take(self, limits: CallerLimits, pictures: int = 1, server: int = 0) -> bool:
        """Take pictures of the day, as a server does: from the table when it has to ask."""
        one = self.servers[server]
        if one.take(*WHO, limits, pictures):
            return True
        use = one.hand_over(*WHO)
        fits = self.pictures[*WHO, use.day] + use.pictures + pictures <= limits.per_day
        used = self.add(use)
        if fits:
            self.pictures[*WHO, use.day] += pictures
            used = Used(used.requests, used.pictures + pictures)
        one.learn(use, used)
        return fits


@given(limits_of_rate, st.lists(st.floats(0, 3), max_size=80))
def test_a_caller_has_a_bucket_of_requests(limits: CallerLimits, pauses: list[float]) -> None:
    world = Servers()
    (server,) = world.servers
    burst = limits.burst or max(1, int(-(-limits.per_second // 1)))
    tokens = float(burst)
    for pause in pauses:
        world.clock.advance(pause)
        tokens = min(burst, tokens + pause * limits.per_second)
        if abs(tokens - 1) < 1e-5:  # the two may round differently
            continue
        wait = server.request(*WHO, limits)
        assert (wait == 0) == (tokens >= 1)
        tokens -= wait == 0
        if wait:
            assert wait == pytest.approx((1 - tokens) / limits.per_second, abs=1e-5)


@given(limits_of_rate)
def test_who_waits_for_as_long_as_was_said_may_ask_again(limits: CallerLimits) -> None:
    world = Servers()
    (server,) = world.servers
    while not (wait := server.request(*WHO, limits)):
        pass
    world.clock.advance(wait * 0.99)
    assert server.request(*WHO, limits)
    world.clock.advance(wait * 0.01 + 1e-6)
    assert not server.request(*WHO, limits)


@given(
    limits_of_rate,
    st.integers(1, 4),
    st.lists(st.tuples(st.floats(0, 8), st.lists(st.integers(0, 60), min_size=4, max_size=4)), max_size=40),
)
def test_several_servers_let_in_as_much_as_one(
    limits: CallerLimits, many: int, rounds: list[tuple[float, list[int]]]
) -> None:
    """However a caller spreads its requests over them and over time, once they know it."""
    world = Servers(many)
    for server in world.servers:
        server.request(*WHO, limits)
    world.tell()
    world.clock.advance(3600)
    began, let_in = world.clock.now, 0
    burst = limits.burst or max(1, int(-(-limits.per_second // 1)))
    for pause, requests in rounds:
        for server, wanted in zip(world.servers, requests, strict=False):
            let_in += sum(server.request(*WHO, limits) == 0 for _ in range(wanted))
        world.clock.advance(TELLING_SECONDS)
        world.tell()
        world.clock.advance(pause)
    time = world.clock.now - began
    # Each may have let in a bucket full, and a little more, that the others have not heard of. Each rounds for itself.
    assert let_in <= many * (burst + limits.per_second * TELLING_SECONDS + 1) + limits.per_second * time


@pytest.mark.parametrize("many", [1, 2, 3])
def test_a_flood_of_several_servers_gets_the_rate_once(many: int) -> None:
    world = Servers(many)

    def flood(seconds: float) -> int:
        let_in = 0
        for step in range(round(seconds / 0.01)):
            world.clock.advance(0.01)
            for server in world.servers:
                let_in += sum(server.request(*WHO, RATE) == 0 for _ in range(3))
            if step % 50 == 0:
                world.tell()
        return let_in

    assert flood(3) <= 3 * 20 + many * (10 + 0.5 * 20) + 1  # a bucket of each, and what they had not told yet
    assert 0.9 * 20 * 30 <= flood(30) <= 1.1 * 20 * 30


def test_a_caller_that_comes_in_waves_gets_the_rate_once() -> None:
    """It waits until every server has forgotten, and then takes a bucket full of each."""
    world = Servers(2)
    slow = CallerLimits(per_second=1, burst=10)
    let_in = 0
    for _ in range(50):
        for server in world.servers:
            let_in += sum(server.request(*WHO, slow) == 0 for _ in range(30))
        world.clock.advance(0.4)
        world.tell()
        world.clock.advance(2 * FRESH_SECONDS - 0.4)
    assert let_in <= 1.1 * 50 * 2 * FRESH_SECONDS + 2 * 10


def test_a_server_that_has_just_started_does_not_count_what_came_before() -> None:
    world = Servers()
    for _ in range(100):
        world.servers[0].request(*WHO, RATE)
        world.clock.advance(0.1)
        world.tell()
    world.servers.append(Limits(world.clock))
    assert not world.servers[1].request(*WHO, RATE)
    world.tell()
    assert world.servers[1].left(*WHO, RATE).requests == 9


def test_callers_and_tiers_have_limits_of_their_own() -> None:
    (server,) = Servers().servers
    while not server.request(*WHO, RATE):
        pass
    assert not server.request("free", "owner:ben", RATE)
    assert not server.request("premium", "owner:anna", RATE)
    assert not server.request(*WHO, CallerLimits(per_second=20, burst=12))  # the numbers are those of the key


@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 8), st.booleans(), st.booleans()), max_size=200),
    st.integers(1, 300),
)
def test_the_pictures_of_a_day_are_counted_exactly(
    many: int, takes: list[tuple[int, int, bool, bool]], limit: int
) -> None:
    """Few are left in all of these days, so the table decides; what was not accepted is given back."""
    world = Servers(many)
    limits = CallerLimits(per_day=limit)
    accepted = 0
    for number, pictures, wanted, telling in takes:
        server = number % many
        if world.take(limits, pictures, server):
            if wanted:
                accepted += pictures
            else:
                world.servers[server].give_back(*WHO, limits, pictures)
        if telling:
            world.tell()
        assert accepted <= limit
    world.tell()
    assert sum(world.pictures.values()) == accepted


def test_two_servers_let_in_the_pictures_of_a_day_within_a_tenth() -> None:
    world = Servers(2)
    let_in = 0
    for step in range(4000):
        world.clock.advance(0.01)
        let_in += sum(world.take(DAY, 3, server) for server in (0, 1)) * 3
        if step % 50 == 0:
            world.tell()
    assert 9_997 <= let_in <= 11_000
    assert let_in <= 10_000  # as the last ones of a day come from the table


def test_pictures_that_are_on_their_way_to_the_table_count() -> None:
    world = Servers()
    (server,) = world.servers
    world.take(DAY, 1)
    assert server.take(*WHO, DAY, 9_000)
    (flying,) = server.due(10)
    assert server.pictures_left(*WHO, DAY) == 999
    server.failed(flying)
    assert server.pictures_left(*WHO, DAY) == 999
    (again,) = server.due(10)
    server.learn(again, world.add(again))
    assert (again.pictures, server.pictures_left(*WHO, DAY)) == (9_000, 999)


def test_a_new_day_begins_with_nothing() -> None:
    world = Servers(2)
    first, second = world.servers
    world.clock.now = 1000 * DAY_SECONDS - 1.0
    assert world.take(DAY, 10_000)
    assert first.pictures_left(*WHO, DAY) == 0
    assert first.left(*WHO, DAY).midnight_in == 1
    world.take(DAY, 1, server=1)
    second.request(*WHO, CallerLimits(per_second=5, per_day=10_000))
    world.clock.advance(2)
    assert first.pictures_left(*WHO, DAY) is None  # so the table is asked
    assert first.left(*WHO, DAY).pictures == 10_000
    assert world.take(DAY, 10_000)
    second.pictures_left(*WHO, DAY)
    world.tell()
    assert world.requests[*WHO, 999] == 1  # what was let in before midnight is told, too
    assert second.pictures_left(*WHO, DAY) == 0


def test_what_the_table_did_not_hear_is_told_later_in_its_own_day() -> None:
    world = Servers()
    (server,) = world.servers
    world.clock.now = 1000 * DAY_SECONDS - 1.0
    world.take(DAY, 5)
    server.take(*WHO, DAY, 7)
    (lost,) = server.due(10)
    world.clock.advance(2)
    world.take(DAY, 3)
    server.failed(lost)
    world.tell()
    assert (world.pictures[*WHO, 999], world.pictures[*WHO, 1000]) == (12, 3)


def test_only_active_callers_are_told_of() -> None:
    world = Servers()
    (server,) = world.servers
    server.request(*WHO, RATE)
    assert [use.requests for use in server.due(10)] == [1]
    assert server.due(10) == []
    server.left(*WHO, RATE)
    assert server.due(10) == []
    server.request(*WHO, CallerLimits())  # without limits
    assert server.due(10) == []


def test_the_callers_that_asked_longest_ago_are_forgotten() -> None:
    world = Servers(most=5)
    (server,) = world.servers
    for number in range(1000):
        server.request("free", f"address:{number}", RATE)
    assert len(server.due(1000)) == 5
    assert server.left("free", "address:999", RATE).requests == 9
    assert server.left("free", "address:0", RATE).requests == 10


def test_what_is_left_is_said() -> None:
    world = Servers()
    (server,) = world.servers
    both = CallerLimits(per_second=4, burst=3, per_day=500)
    left = server.left(*WHO, both)
    assert (left.requests, left.more_in, left.pictures) == (3, 0, 500)
    server.request(*WHO, both)
    server.request(*WHO, both)
    left = server.left(*WHO, both)
    assert (left.requests, left.more_in) == (1, 0.25)
    world.clock.advance(0.3)
    assert server.left(*WHO, both).requests == 2
    nothing = server.left(*WHO, CallerLimits())
    assert (nothing.requests, nothing.pictures) == (None, None)


def test_a_row_outlives_its_day_or_ten_minutes() -> None:
    world = Servers()
    (server,) = world.servers
    server.request(*WHO, RATE)
    (use,) = server.due(1)
    assert use.until == world.clock.now + 600
    world.take(DAY, 1)
    assert world.told[-1].until == (world.told[-1].day + 1) * DAY_SECONDS + 600
