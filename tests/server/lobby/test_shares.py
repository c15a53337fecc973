"""Callers share a tier by weight, whatever they send and when: the lobby's part of it, without a table."""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict, deque
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from server.lobby.shares import CALLERS, KNOWN_SECONDS, Shares
from server.queue import Submission
from tests.server.given import HandClock

WEIGHTS = st.lists(st.sampled_from([0.25, 1.0, 1.5, 3.0, 10.0]), min_size=2, max_size=4)
SENDS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 8)), min_size=1, max_size=120)


def submission(caller: str, images: int = 1, weight: float = 1.0, tier: str = "free") -> Submission:
    return Submission(
        id="p",
        tier=tier,
        model="m",
        images=images,
        size=100,
        top_k=5,
        priority=0,
        deadline=60.0,
        idempotency_key=None,
        fingerprint=None,
        owner=caller,
        caller=caller,
        weight=weight,
    )


class Tier:
    """A tier whose predictions all wait in the lobby. ``served`` has callers and numbers of what was handed out."""

    def __init__(self) -> None:
        self.shares = Shares(HandClock())
        self.heap: list[tuple[int, int, float, Submission]] = []
        self.sent: Counter[str] = Counter()
        self.numbers: dict[int, int] = {}
        self.waiting: Counter[str] = Counter()
        self.served: list[tuple[str, int]] = []
        self.images: defaultdict[str, int] = defaultdict(int)
        self.arrivals = 0

    def send(self, one: Submission) -> None:
        start = self.shares.start(one)
        self.arrivals += 1
        self.numbers[self.arrivals] = self.sent[one.caller]
        self.sent[one.caller] += 1
        self.waiting[one.caller] += 1
        heapq.heappush(self.heap, (math.floor(start), self.arrivals, start, one))

    def serve(self) -> Submission:
        _, arrival, start, one = heapq.heappop(self.heap)
        self.shares.handed(one, start)
        self.waiting[one.caller] -= 1
        self.images[one.caller] += one.images
        self.served.append((one.caller, self.numbers[arrival]))
        return one


def in_their_own_order(served: Sequence[tuple[str, int]]) -> bool:
    seen: Counter[str] = Counter()
    for caller, number in served:
        if number != seen[caller]:
            return False
        seen[caller] += 1
    return True


@given(weights=WEIGHTS, sizes=st.lists(st.integers(1, 8), min_size=1, max_size=40), backlog=st.integers(1, 9))
def test_who_always_has_work_gets_its_weight(weights: list[float], sizes: list[int], backlog: int) -> None:
    tier, left = Tier(), {str(one): deque(sizes[one:] + sizes[:one]) for one in range(len(weights))}

    def send(caller: str) -> None:
        left[caller].rotate(-1)
        tier.send(submission(caller, left[caller][0], weights[int(caller)]))

    for caller in left:
        for _ in range(backlog):
            send(caller)
    for _ in range(200):
        send(tier.serve().caller)
        shares = [tier.images[caller] / weights[int(caller)] for caller in left]
        largest = [max(sizes) / weight for weight in weights]
        for one in range(len(weights)):
            for other in range(one):
                assert abs(shares[one] - shares[other]) <= 1 + largest[one] + largest[other]
    assert in_their_own_order(tier.served)


@given(sends=SENDS, backlog=st.integers(1, 300), callers=st.integers(1, 4))
def test_a_newcomer_waits_for_two_turns(sends: list[tuple[int, int]], backlog: int, callers: int) -> None:
    tier = Tier()
    for caller in range(callers):
        for _ in range(backlog):
            tier.send(submission(f"crowd-{caller}"))
    for serves, _ in sends:
        for _ in range(min(serves, len(tier.heap))):
            tier.serve()
    tier.send(submission("newcomer"))
    before = len(tier.served)
    while tier.serve().caller != "newcomer":
        pass
    assert len(tier.served) - before <= 2 * callers + 1


def test_endless_newcomers_starve_nobody() -> None:
    tier = Tier()
    for _ in range(20):
        tier.send(submission("patient"))
    for number in range(400):
        tier.send(submission(f"newcomer-{number}"))
        tier.serve()
    assert not tier.waiting["patient"]


@given(sends=SENDS, serves=st.lists(st.integers(0, 3), min_size=1))
def test_alone_one_gets_everything_and_ones_own_order_stays(sends: list[tuple[int, int]], serves: list[int]) -> None:
    tier = Tier()
    for number, (caller, images) in enumerate(sends):
        tier.send(submission(str(caller), images))
        for _ in range(min(serves[number % len(serves)], len(tier.heap))):
            tier.serve()
    while tier.heap:
        tier.serve()
    assert in_their_own_order(tier.served)
    assert len(tier.served) == len(sends)
    for _ in range(100):
        tier.send(submission("only"))
    assert [tier.serve().caller for _ in range(100)] == ["only"] * 100


def test_what_was_taken_back_is_not_waited_for() -> None:
    shares, one = Shares(HandClock()), submission("hasty", 3)

    def take_back() -> float:
        for _ in range(100):
            shares.start(one)
        shares.withdrawn(one)
        return shares.floor(one)

    first, second = shares.start(one), shares.start(one)
    shares.handed(one, second)
    shares.handed(one, first)
    assert take_back() == 7.0
    assert not shares.is_paid(one, shares.start(one))  # it is being kept
    assert take_back() == 10.0
    shares.submitted(one, 10.0, 13.0)
    assert take_back() == 13.0
    shares.kept(one, 20.0)
    assert take_back() == 20.0


def test_what_took_the_table_meanwhile_counts_beside_the_entries() -> None:
    """The table cannot know of entries that come while it takes something; nor they of that."""
    shares, one = Shares(HandClock()), submission("both", 2)
    floor = shares.floor(one)
    starts = [shares.start(one) for _ in range(3)]
    shares.submitted(one, floor, floor + 2)
    assert starts == [1.0, 3.0, 5.0]
    assert shares.start(one) == 9.0
    shares.submitted(one, shares.floor(one), 100.0)  # others counted there, too
    assert shares.start(one) == 100.0
    shares.kept(one, 50.0)  # an answer that is older
    assert shares.start(one) == 102.0


def test_the_table_counts_each_entry_once() -> None:
    shares, one = Shares(HandClock()), submission("kept")
    starts = [shares.start(one) for _ in range(4)]
    assert [shares.is_paid(one, starts[number]) for number in (1, 0, 1, 2)] == [False, True, True, False]
    shares.submitted(one, shares.floor(one), shares.floor(one) + 1)
    assert shares.is_paid(one, starts[3])
    assert not shares.is_paid(one, shares.start(one))


def test_it_relies_for_a_second_on_what_the_table_said() -> None:
    clock = HandClock()
    shares, one = Shares(clock), submission("known")
    assert not shares.knows(one)
    shares.start(one)
    assert not shares.knows(one)
    shares.submitted(one, 1.0, 7.0)
    clock.advance(KNOWN_SECONDS / 2)
    assert shares.knows(one)
    assert not shares.knows(submission("known", tier="premium"))
    clock.advance(KNOWN_SECONDS)
    assert not shares.knows(one)
    shares.kept(one, 8.0)
    assert shares.knows(one)


def test_tiers_have_turns_of_their_own() -> None:
    shares = Shares(HandClock())
    shares.served("free", 41)
    shares.served("free", 7)
    assert (shares.start(submission("one")), shares.start(submission("one", tier="premium"))) == (42.0, 1.0)


def test_so_many_callers_are_remembered_and_the_latest_are() -> None:
    shares = Shares(HandClock())
    for number in range(CALLERS + 1):
        shares.start(submission(f"caller-{number}"))
        shares.start(submission("busy"))
    assert shares.floor(submission("busy")) == CALLERS + 2
    assert shares.floor(submission("caller-0")) == 1.0
    assert shares.floor(submission(f"caller-{CALLERS}")) == 2.0
