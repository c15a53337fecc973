"""Which predictions the canary gets, and which workers get them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.models import is_canary, lane
from server.queue import Served, Serving

OLD, NEW, OTHER = (Served(f"flowers@0000000{n}", f"{n}" * 64, "onnx", "int8", 0.0) for n in range(3))


@given(st.text(), st.floats(0, 100), st.floats(0, 100))
def test_a_larger_share_takes_no_prediction_away(prediction_id: str, one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert is_canary(prediction_id, more) or not is_canary(prediction_id, less)
    assert is_canary(prediction_id, less) == is_canary(prediction_id, less)


@given(st.text())
def test_nothing_and_everything(prediction_id: str) -> None:
    assert not is_canary(prediction_id, 0)
    assert is_canary(prediction_id, 100)


@pytest.mark.parametrize("percent", [0.5, 10, 50, 90])
def test_the_share_is_so_many_percent_of_the_ids(percent: float) -> None:
    many = 20_000
    taken = sum(is_canary(f"id-{number}", percent) for number in range(many))
    assert taken / many * 100 == pytest.approx(percent, abs=1)


@pytest.mark.parametrize(
    ("model", "serving", "gets"),
    [
        (OLD.key, Serving(OLD, NEW, 5), False),
        (NEW.key, Serving(OLD, NEW, 5), True),
        (NEW.key, Serving(OLD, NEW, 0), True),
        (OTHER.key, Serving(OLD, NEW, 5), None),
        (OLD.key, Serving(NEW), None),
        (NEW.key, Serving(NEW), False),
        ("", Serving(OLD), False),
        (OLD.key, Serving(), False),
        (OLD.key.replace("int8", "fp32"), Serving(OLD), None),
    ],
)
def test_the_lane_of_a_worker(model: str, serving: Serving, gets: bool | None) -> None:
    assert lane(model, serving) is gets
