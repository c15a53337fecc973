"""How tiers divide a capacity: by a table, by what must always hold, and by what becomes of it in the long run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from server.leader.lending import Amounts, Claim, Portion, divide, parts, standing
from server.queue import Lending

SLACK = 1e-6
WANTS = dict.fromkeys(("a", "b", "c", "analysts", "builders", "large"), 9)


def claim(running: int = 0, cpu: float = 1.0, *, share: float = 1, going: int = 0, old: int | None = None) -> Claim:
    """A tier whose Jobs take ``cpu`` cores each. ``going`` of them end; ``old`` of the others may be recalled."""
    old = running - going if old is None else old
    one = {"cpu": cpu}
    return Claim(share, one, {"cpu": running * cpu}, {"cpu": going * cpu}, [one] * old)


def portions(capacity: float, claims: Mapping[str, Claim], **wanted: int) -> dict[str, tuple[int, int, int]]:
    """For each tier how many Jobs start, how many are awaited, and how many of its workers are recalled."""
    found = divide({"cpu": capacity}, claims, wanted, wanted)
    return {name: (one.starts, one.awaited, len(one.recalled_for)) for name, one in found.items()}


@pytest.mark.parametrize(
    ("claims", "wanted", "free", "premium"),
    [
        # Nobody is above its part, and there is room for all.
        ((claim(), claim()), (2, 2), (2, 0, 0), (2, 0, 0)),
        # One works alone: it gets everything.
        ((claim(), claim()), (9, 0), (4, 0, 0), (0, 0, 0)),
        # Two begin together: each gets its half.
        ((claim(), claim()), (9, 9), (2, 0, 0), (2, 0, 0)),
        # The other one has borrowed everything: it gives back a half, as Jobs start for it.
        ((claim(4), claim()), (9, 1), (0, 0, 1), (0, 1, 0)),
        ((claim(4), claim()), (9, 9), (0, 0, 2), (0, 2, 0)),
        # What is recalled is waited for: nothing more is recalled, and nobody else gets it.
        ((claim(4, going=1), claim()), (9, 1), (0, 0, 0), (0, 1, 0)),
        # It is gone: the Job starts, and no other one.
        ((claim(3), claim()), (9, 1), (0, 0, 0), (1, 0, 0)),
        # Its workers are younger than they must be.
        ((claim(4, old=0), claim()), (9, 9), (0, 0, 0), (0, 0, 0)),
        ((claim(4, old=1), claim()), (9, 9), (0, 0, 1), (0, 1, 0)),
        # Both have their half, and want more.
        ((claim(2), claim(2)), (9, 9), (0, 0, 0), (0, 0, 0)),
        # A tier with a greater share borrows less, and gets more back.
        ((claim(4), claim(share=3)), (9, 9), (0, 0, 3), (0, 3, 0)),
        ((claim(share=3), claim(4)), (9, 9), (0, 3, 0), (0, 0, 3)),
        # Somebody borrowed what nobody used, and does not want it now.
        ((claim(3), claim(1)), (0, 1), (0, 0, 1), (0, 1, 0)),
        # Small workers make room for a large one, only as many as it takes, and never more than is fair.
        ((claim(8, 0.5), claim(cpu=1.5)), (9, 1), (0, 0, 3), (0, 1, 0)),
        ((claim(8, 0.5), claim(cpu=3)), (9, 1), (0, 0, 0), (0, 0, 0)),
        # A Job that fits nowhere recalls nobody.
        ((claim(4), claim(cpu=5)), (0, 1), (0, 0, 0), (0, 0, 0)),
    ],
)
def test_two_tiers_on_four_cores(
    claims: tuple[Claim, Claim],
    wanted: tuple[int, int],
    free: tuple[int, int, int],
    premium: tuple[int, int, int],
) -> None:
    given_ = dict(zip(("free", "premium"), claims, strict=True))
    assert portions(4, given_, free=wanted[0], premium=wanted[1]) == {"free": free, "premium": premium}


def test_nobody_is_recalled_for_a_tier_that_keeps_up_but_what_is_free_it_gets() -> None:
    found = divide({"cpu": 4}, {"a": claim(3), "b": claim(1)}, {"a": 9, "b": 1}, {"a": 9})
    assert [(one.starts, one.awaited, one.recalled_for) for one in found.values()] == [(0, 0, ()), (0, 0, ())]
    assert divide({"cpu": 4}, {"a": claim(3), "b": claim()}, {"b": 1}, {})["b"].starts == 1


def test_of_three_tiers_the_one_that_borrowed_most_gives_back() -> None:
    claims = {"a": claim(4), "b": claim(2), "c": claim()}
    assert portions(6, claims, a=9, b=9, c=9) == {"a": (0, 0, 2), "b": (0, 0, 0), "c": (0, 2, 0)}
    assert divide({"cpu": 6}, claims, {"c": 1}, WANTS)["a"].recalled_for == ("c",)


def test_borrowers_divide_what_a_third_one_lends() -> None:
    assert portions(6, {"a": claim(6), "b": claim(), "c": claim()}, a=9, b=9) == {
        "a": (0, 0, 3),
        "b": (0, 3, 0),
        "c": (0, 0, 0),
    }


def test_the_dominant_resource_decides() -> None:
    capacity = {"cpu": 9.0, "memory": 18.0}
    claims = {
        "analysts": Claim(1, {"cpu": 1, "memory": 4}, {}, {}),
        "builders": Claim(1, {"cpu": 3, "memory": 1}, {}, {}),
    }
    found = divide(capacity, claims, {"analysts": 9, "builders": 9}, WANTS)
    assert {name: one.starts for name, one in found.items()} == {"analysts": 3, "builders": 2}  # the paper's example


def test_no_worker_is_recalled_that_has_nothing_of_what_is_lacking() -> None:
    gpu = {"cpu": 1.0, "gpus": 1.0}
    plain = {"cpu": 1.0}
    claims = {
        "large": Claim(1, gpu, {}, {}),
        "small": Claim(1, plain, {"cpu": 7.0}, {}, [plain] * 7),
        "other": Claim(1, gpu, {"cpu": 2.0, "gpus": 2.0}, {}, [gpu] * 2),
    }
    found = divide({"cpu": 10, "gpus": 2}, claims, {"large": 1}, WANTS)
    assert (found["small"].recalled_for, found["other"].recalled_for) == ((), ("large",))


def test_only_what_is_necessary_is_recalled() -> None:
    small, large = {"cpu": 0.5}, {"cpu": 2.0}
    claims = {
        "a": Claim(1, small, {"cpu": 4.0}, {}, [small, large, *[small] * 3]),
        "b": Claim(1, large, {}, {}),
    }
    assert divide({"cpu": 4}, claims, {"b": 1}, WANTS)["a"].recalled_for == (
        "b",
        "b",
    )  # the small one is before the large one


def test_a_smaller_capacity_is_kept_by_recalls_from_the_highest_level() -> None:
    claims = {"a": claim(4), "b": claim(2)}
    assert portions(4, claims, a=9, b=9) == {"a": (0, 0, 2), "b": (0, 0, 0)}
    assert divide({"cpu": 4}, claims, {}, WANTS)["a"].recalled_for == ("", "")
    assert portions(4, {"a": claim(6, old=1), "b": claim()}, b=1) == {"a": (0, 0, 1), "b": (0, 0, 0)}


def test_what_the_capacity_lacks_is_told() -> None:
    claims = {"a": claim(4, 0.9), "b": claim(cpu=0.9)}
    found = divide({"cpu": 4}, claims, {"b": 1}, WANTS)["b"]
    assert found == Portion(0, 1, (), 0, "capacity cpu: 3.6 of 4 used by all tiers, a worker takes 0.9")
    assert divide({"cpu": 4}, {"b": claim(1, 0.9)}, {"b": 1}, WANTS)["b"] == Portion(1, 0, (), 3, "")
    assert divide({"memory": 4}, {"b": claim(1)}, {"b": 1}, WANTS)["b"].room is None


def test_how_tiers_stand() -> None:
    found = standing({"cpu": 4}, {"a": claim(3), "b": claim(1), "c": claim(share=2)})
    assert found == {
        "a": Lending(share=0.25, used=0.75, borrowed=0.5, lent=0.0, recalled=0),
        "b": Lending(share=0.25, used=0.25, borrowed=0.0, lent=0.0, recalled=0),
        "c": Lending(share=0.5, used=0.0, borrowed=0.0, lent=0.5, recalled=0),
    }
    assert standing({"cpu": 4}, {}) == {}


@dataclass
class Tier:
    """A tier whose queue never ends, so that it would always have ``most`` workers."""

    share: int
    needs: Amounts
    most: int
    running: int = 0
    leaving: int = 0
    young: int = 0
    """How many of the others may not be recalled."""

    @property
    def wants(self) -> int:
        return max(0, self.most - (self.running - self.leaving))

    def claim(self) -> Claim:
        old = max(0, self.running - self.leaving - self.young)
        return Claim(self.share, self.needs, self._of(self.running), self._of(self.leaving), [self.needs] * old)

    def _of(self, many: int) -> Amounts:
        return {name: many * one for name, one in self.needs.items()}


@dataclass
class World:
    """Tiers on a capacity, step by step."""

    capacity: Amounts
    tiers: dict[str, Tier]
    recalls: list[int] = field(default_factory=list)

    def claims(self) -> dict[str, Claim]:
        return {name: tier.claim() for name, tier in self.tiers.items()}

    @property
    def wants(self) -> dict[str, int]:
        return {name: tier.wants for name, tier in self.tiers.items()}

    def divide(self) -> dict[str, Portion]:
        return divide(self.capacity, self.claims(), self.wants, self.wants)

    def used(self, more: Mapping[str, int] | None = None) -> Amounts:
        more = more or {}
        return {
            name: sum((one.running + more.get(who, 0)) * one.needs.get(name, 0) for who, one in self.tiers.items())
            for name in self.capacity
        }

    def fits(self, used: Amounts) -> bool:
        return all(used[name] <= most + SLACK for name, most in self.capacity.items())

    def level(self, name: str, many: int) -> float:
        tier = self.tiers[name]
        used = [(many * tier.needs.get(each, 0), most) for each, most in self.capacity.items()]
        of = [amount / most if most else math.inf for amount, most in used if amount]
        return max(of, default=0.0) / parts(self.claims())[name]

    def step(self, *, gone: bool) -> bool:
        """Do what is planned; those that leave are ``gone`` before. Whether anything was done."""
        for tier in self.tiers.values():
            if gone:
                tier.running, tier.leaving = tier.running - tier.leaving, 0
        found = self.divide()
        for name, portion in found.items():
            self.tiers[name].running += portion.starts
            self.tiers[name].leaving += len(portion.recalled_for)
        self.recalls.append(sum(len(portion.recalled_for) for portion in found.values()))
        return any(one.starts or one.recalled_for for one in found.values())


@st.composite
def worlds(draw: st.DrawFn, *, young: bool = False) -> World:
    capacity: dict[str, float] = {"cpu": draw(st.sampled_from([1, 2, 3.6, 4, 8, 10]))}
    if draw(st.booleans()):
        capacity["gpus"] = draw(st.integers(0, 4))
    tiers = {}
    for name in "abcde"[: draw(st.integers(1, 5))]:
        needs = {"cpu": draw(st.sampled_from([0.3, 0.5, 0.9, 1, 2])), "gpus": draw(st.sampled_from([0, 0, 1, 2]))}
        tiers[name] = Tier(draw(st.integers(1, 5)), needs, draw(st.integers(0, 12)))
    world = World(capacity, tiers)
    for name in draw(st.lists(st.sampled_from(sorted(tiers)), max_size=30)):
        if world.fits(world.used({name: 1})):
            tiers[name].running += 1
    for tier in tiers.values():
        tier.leaving = draw(st.integers(0, tier.running))
        tier.young = draw(st.integers(0, tier.running)) if young else 0
    return world


@given(worlds(young=True))
def test_the_capacity_is_never_exceeded(world: World) -> None:
    found = world.divide()
    assert world.fits(world.used({name: one.starts for name, one in found.items()}))
    later = {
        name: one.starts + one.awaited - len(one.recalled_for) - world.tiers[name].leaving
        for name, one in found.items()
    }
    assert world.fits(world.used(later))
    for name, one in found.items():
        assert one.starts + one.awaited <= world.tiers[name].wants
        assert len(one.recalled_for) <= len(world.claims()[name].recallable)


@given(worlds())
def test_every_tier_gets_what_it_wants_up_to_its_part(world: World) -> None:
    found = world.divide()
    for name, one in found.items():
        tier = world.tiers[name]
        has = tier.running - tier.leaving + one.starts + one.awaited
        if has < tier.most:
            assert world.level(name, has + 1) > 1 - SLACK, f"{name} is refused a Job of its own part"


@given(worlds(young=True))
def test_a_recall_lets_a_job_start_for_a_tier_on_a_lower_level(world: World) -> None:
    found = world.divide()
    for name, one in found.items():
        tier = world.tiers[name]
        has = tier.running - tier.leaving
        for place, other in enumerate(one.recalled_for):
            gets = world.tiers[other].running - world.tiers[other].leaving
            assert found[other].awaited > 0, "nobody is recalled for nothing"
            assert other != name
            assert world.level(name, has - place) > world.level(other, gets + 1) - SLACK


@given(worlds(), st.booleans())
def test_it_comes_to_rest(world: World, slow: bool) -> None:
    """While all want the same, recalls end, and then whatever fits has started."""
    for number in range(100):
        if not world.step(gone=not slow or number % 3 == 2) and not any(one.leaving for one in world.tiers.values()):
            break
    else:
        pytest.fail(f"it flaps: {world.recalls}")
    assert sum(world.recalls) <= 40
    for name, tier in world.tiers.items():
        assert not tier.wants or not world.fits(world.used({name: 1})), f"{name} could start one more"


@given(worlds())
def test_at_rest_nobody_is_below_its_part_while_another_is_above(world: World) -> None:
    for _ in range(50):
        world.step(gone=True)
    above = [name for name, tier in world.tiers.items() if world.level(name, tier.running) > 1 + SLACK]
    for name, tier in world.tiers.items():
        if tier.wants and world.level(name, tier.running + 1) <= 1 - SLACK:
            assert not above


@given(worlds())
def test_what_was_borrowed_was_lent(world: World) -> None:
    assume("gpus" not in world.capacity)  # of one resource: else each one's dominant share may be of another
    found = standing(world.capacity, world.claims()).values()
    assert sum(one.borrowed for one in found) == pytest.approx(sum(one.lent for one in found), abs=1e-3)
    assert sum(one.share for one in found) == pytest.approx(1, abs=1e-3)
