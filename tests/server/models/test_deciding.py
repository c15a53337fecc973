"""What a tier serves: decisions as tables, and what holds for every life of a tier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.models import NoModel, decide, roll_back, startable, with_canary
from server.models.deciding import MOST_PREVIOUS, Known
from server.queue import Served, Serving
from server.settings.records import Canary, ModelChoice

CHOICE = ModelChoice("flowers", "int8", "onnx")
V1, V2, V3 = "flowers@00000001", "flowers@00000002", "flowers@00000003"


@dataclass(frozen=True)
class There:
    reference: str
    digest: str


class Names(dict[str, str]):
    """What each name stands for; what any name stands for is there under NAME@VERSION too."""

    def __call__(self, name: str) -> Known:
        reference = self.get(name, name if name in self.values() else None)
        if reference is None:
            raise NoModel(f"no {name}")
        return There(reference, reference[-8:] * 8)


def served(reference: str, since: float = 0.0, variant: str = "int8") -> Served:
    return Served(reference, reference[-8:] * 8, "onnx", variant, since)


def names(**of: str) -> Names:
    return Names({V1: V1, V2: V2, V3: V3} | {key.replace("_", "@"): value for key, value in of.items()})


ONE, TWO, THREE = (served(reference) for reference in (V1, V2, V3))
FLOWERS = names(flowers=V2)


def canary(name: str, percent: float = 10.0) -> ModelChoice:
    return replace(CHOICE, canary=Canary(name, percent))


@pytest.mark.parametrize(
    ("case", "choice", "before", "after"),
    [
        ("the first", CHOICE, Serving(), Serving(served(V2, 9))),
        ("the same", CHOICE, Serving(TWO), Serving(TWO)),
        ("another", CHOICE, Serving(ONE), Serving(served(V2, 9), previous=(ONE,))),
        ("back again", CHOICE, Serving(ONE, previous=(TWO, THREE)), Serving(served(V2, 9), previous=(ONE, THREE))),
        ("another variant", replace(CHOICE, variant="fp32"), Serving(TWO), Serving(served(V2, 9, "fp32"))),
        ("rolled back", CHOICE, Serving(ONE, instead_of=V2), Serving(ONE, instead_of=V2)),
        ("rolled back from another", CHOICE, Serving(ONE, instead_of=V3), Serving(served(V2, 9), previous=(ONE,))),
        ("a new canary waits", canary(V3), Serving(TWO), Serving(TWO, served(V3, 9))),
        ("an open canary stays open", canary(V3, 30), Serving(TWO, THREE, 10), Serving(TWO, THREE, 30)),
        ("a rested canary rests on", canary(V3, 30), Serving(TWO, THREE), Serving(TWO, THREE)),
        ("another canary", canary(V3), Serving(TWO, ONE, 10), Serving(TWO, served(V3, 9))),
        ("no canary any more", CHOICE, Serving(TWO, THREE, 10), Serving(TWO)),
        ("a canary that is the main", canary(V2), Serving(TWO, THREE, 10), Serving(TWO)),
        ("a canary becomes the main", CHOICE, Serving(ONE, TWO, 10), Serving(served(V2, 9), previous=(ONE,))),
        ("a rolled back canary", canary(V2), Serving(ONE, instead_of=V2), Serving(ONE, instead_of=V2)),
    ],
)
def test_a_decision(case: str, choice: ModelChoice, before: Serving, after: Serving) -> None:
    assert decide(choice, before, FLOWERS, 9.0) == after, case


@pytest.mark.parametrize(
    ("case", "before", "after"),
    [
        ("the old one goes on", Serving(ONE, previous=(THREE,)), Serving(ONE, previous=(THREE,), problem="no gone")),
        ("a rollback goes on", Serving(ONE, instead_of=V2), Serving(ONE, instead_of=V2, problem="no gone")),
        ("nothing to go on with", Serving(), Serving(problem="no gone")),
    ],
)
def test_a_name_that_stands_for_nothing(case: str, before: Serving, after: Serving) -> None:
    assert decide(replace(CHOICE, name="gone"), before, FLOWERS, 9.0) == after, case


def test_a_canary_that_stands_for_nothing_is_told_and_the_old_one_goes_on() -> None:
    told = decide(canary("gone"), Serving(TWO, THREE, 10), FLOWERS, 9.0)
    assert told == Serving(TWO, THREE, 10, problem="the canary: no gone")
    other = replace(canary("gone"), variant="fp32")
    assert decide(other, Serving(TWO, THREE, 10), FLOWERS, 9.0).canary is None, "its workers would run another variant"


def test_a_model_that_is_gone_goes_on_while_nothing_else_can() -> None:
    before = Serving(served("flowers@0000000f"))
    gone = decide(replace(CHOICE, name="gone"), before, FLOWERS, 9.0)
    assert gone == replace(before, problem="no gone")
    assert startable(gone, CHOICE)
    assert not startable(gone, replace(CHOICE, variant="fp32")), "the old one in another variant is not what was served"
    assert not startable(Serving(), CHOICE)


def test_rolled_back_and_undone() -> None:
    before = Serving(TWO, THREE, 10, previous=(ONE, THREE))
    rolled = roll_back(canary(V3), before, FLOWERS, 9.0)
    assert rolled == Serving(served(V1, 9), THREE, 10, previous=(THREE,), instead_of=V2)
    assert decide(canary(V3), rolled, FLOWERS, 10.0) == rolled, "it holds"
    undone = decide(canary(V3), replace(rolled, instead_of=""), FLOWERS, 11.0)
    assert undone == Serving(served(V2, 11), THREE, 10, previous=(served(V1, 9), THREE))


def test_a_rollback_goes_past_what_is_gone_and_again_further_back() -> None:
    gone = served("flowers@0000000f")
    before = Serving(TWO, previous=(gone, THREE, ONE))
    once = roll_back(CHOICE, before, FLOWERS, 9.0)
    assert (once.main, once.previous, once.instead_of) == (served(V3, 9), (ONE,), V2)
    twice = roll_back(CHOICE, once, FLOWERS, 10.0)
    assert (twice.main, twice.previous, twice.instead_of) == (served(V1, 10), (), V2)
    with pytest.raises(NoModel, match="no model that the tier served before is left"):
        roll_back(CHOICE, twice, FLOWERS, 11.0)


def test_a_rollback_ends_when_the_name_stands_for_another() -> None:
    rolled = roll_back(CHOICE, Serving(TWO, previous=(ONE,)), FLOWERS, 9.0)
    pushed = decide(CHOICE, rolled, names(flowers=V3), 10.0)
    assert pushed == Serving(served(V3, 10), previous=(served(V1, 9),))


def test_a_rollback_while_the_name_stands_for_nothing_is_from_what_was_served() -> None:
    choice = replace(CHOICE, name="gone")
    rolled = roll_back(choice, Serving(TWO, previous=(ONE,), problem="no gone"), FLOWERS, 9.0)
    assert (rolled.main, rolled.instead_of) == (served(V1, 9), V2)
    assert decide(choice, rolled, names(gone=V2), 10.0).main == served(V1, 9), "the name stands for the bad one again"
    assert decide(choice, rolled, names(gone=V3), 10.0).main == served(V3, 10)


def test_a_canary_gets_predictions_only_without_an_obstacle() -> None:
    waiting = decide(canary(V3), Serving(TWO), FLOWERS, 9.0)
    told = with_canary(waiting, canary(V3), "its first worker starts")
    assert (told.percent, told.problem) == (0.0, f"the canary {V3} gets no predictions: its first worker starts")
    opened = with_canary(waiting, canary(V3), "")
    assert (opened.percent, opened.problem) == (10.0, "")
    assert decide(canary(V3), opened, FLOWERS, 10.0) == opened
    assert with_canary(Serving(TWO), CHOICE, "nothing") == Serving(TWO)


ANY = st.sampled_from([V1, V2, V3, "flowers", "flowers@best", "gone"])
CHOICES = st.builds(
    ModelChoice,
    ANY,
    st.sampled_from(["int8", "fp32"]),
    st.just("onnx"),
    st.none() | st.builds(Canary, ANY, st.floats(1, 100)),
)
VERSIONS = st.sampled_from([V1, V2, V3])
THERE = st.builds(
    lambda versions, others: {version: version for version in versions} | others,
    st.sets(VERSIONS),
    st.dictionaries(st.sampled_from(["flowers", "flowers@best"]), VERSIONS),
)
STEPS = st.lists(st.tuples(CHOICES, THERE, st.sampled_from(["", "", "back", "undo", "open", "rest"])), max_size=12)


@given(STEPS)
def test_whatever_happens_to_a_tier(steps: list[tuple[ModelChoice, Mapping[str, str], str]]) -> None:
    serving, now = Serving(), 0.0
    for choice, there, event in steps:
        now += 1
        resolve, had = Names(there), serving.main
        if event == "back":
            try:
                serving = roll_back(choice, serving, resolve, now)
                assert serving.main not in (None, had)
            except NoModel:
                pass
        elif event == "undo":
            serving = replace(serving, instead_of="")
        after = decide(choice, serving, resolve, now)
        assert decide(choice, after, resolve, now + 0.5) == after, "to decide again changes nothing"
        assert after.main is not None or had is None, "a tier that served something serves something"
        references = [one.reference for one in after.previous]
        assert len(references) == len(set(references)) <= MOST_PREVIOUS
        assert after.main is None or after.main.reference not in references
        assert after.canary is None or after.main is None or after.canary.key != after.main.key
        assert after.percent == 0 or (after.canary and choice.canary and after.percent == choice.canary.percent)
        assert after.problem or after.main is not None
        if not after.problem and not after.instead_of:
            assert after.main is not None and after.main.reference == resolve(choice.name).reference
        serving = (
            with_canary(after, choice, "it rests" if event == "rest" else "") if event in ("open", "rest") else after
        )
