"""Likeness, accuracy and confusions are what they are called, and logits come one for each picture, in order."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from model.build.errors import BuildError
from model.build.export import export
from model.build.judge import accuracy, confusions, fp32_fits, is_sure, judge, onnx_logits
from model.build.loaded import torch_logits
from model.build.pictures import Picture
from tests.model.build.told import Told

NAN, INF = float("nan"), float("inf")
SHAPE = (1, 2, 3)


def logits(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_likeness_counts_all_pictures_and_those_that_timm_is_sure_of() -> None:
    timm_says = logits([9, 0, 0], [9, 0, 0], [0.1, 0, 0])
    like = judge(timm_says, logits([8, 0, 0], [0, 9, 0], [0, 0.1, 0]))
    assert like.agreement == pytest.approx(1 / 3)
    assert (like.sure, like.sure_agreement, like.largest_difference) == (2, 0.5, 9)
    same = judge(timm_says, timm_says)
    assert (same.agreement, same.sure_agreement, same.largest_difference) == (1, 1, 0)
    unsure = judge(np.zeros((2, 1000), np.float32), np.zeros((2, 1000), np.float32))
    assert (unsure.sure, unsure.sure_agreement) == (0, None)


@pytest.mark.parametrize(
    ("shares", "sure"),
    [
        ([0.31, 0.15, *[0.09] * 6], True),
        ([0.29, 0.11, *[0.1] * 6], False),  # below 0.3
        ([0.59, 0.41], False),  # above 0.3, but not twice the second
        ([0.67, 0.33], True),
        ([0.5, 0.5], False),
    ],
)
def test_timm_is_sure_above_a_share_that_is_twice_the_second(shares: list[float], sure: bool) -> None:
    assert is_sure(np.log(logits(shares))).tolist() == [sure]


@pytest.mark.parametrize("wrong", [NAN, INF, -INF])
def test_a_picture_without_finite_logits_agrees_with_nothing(wrong: float) -> None:
    timm_says = logits([9, 0, 0], [0, 9, 0])
    broken = logits([9, wrong, 0], [0, 9, 0])
    like = judge(timm_says, broken)
    assert (like.agreement, like.sure_agreement) == (0.5, 0.5)
    assert not like.largest_difference < 100
    assert accuracy(broken, np.array([0, 1])) == (0.5, 0.5)
    assert confusions(broken, np.array([0, 1]), "abc") == []


def test_fp32_fits_but_for_rounding() -> None:
    timm_says = logits([100, 0, -5])
    assert fp32_fits(timm_says, timm_says)
    assert fp32_fits(timm_says, timm_says + logits([0.1, 0.0009, 0]))
    assert not fp32_fits(timm_says, timm_says + logits([0.2, 0, 0]))
    assert not fp32_fits(timm_says, timm_says + logits([0, 0.002, 0]))
    assert not fp32_fits(logits([0, 0]), logits([0]))
    for wrong in (NAN, INF):
        broken = logits([100, 0, wrong])
        assert not fp32_fits(timm_says, broken)
        assert not fp32_fits(broken, broken)


def test_accuracy_of_few_and_of_many_classes() -> None:
    six = logits([6, 5, 4, 3, 2, 1])
    assert [accuracy(six, np.array([true])) for true in (0, 4, 5)] == [(1, 1), (0, 1), (0, 0)]
    assert accuracy(logits([1, 2], [2, 1]), np.array([1, 1])) == (0.5, 1)


@given(st.data())
def test_accuracy_is_that_of_the_classes_in_the_workers_order(data: st.DataObject) -> None:
    count, classes = data.draw(st.integers(1, 8)), data.draw(st.integers(2, 9))
    # Few different values, so that many classes tie.
    given_logits = data.draw(arrays(np.float32, (count, classes), elements=st.sampled_from([0.0, 1.0, 2.5])))
    truth = data.draw(arrays(np.int64, count, elements=st.integers(0, classes - 1)))
    order = np.argsort(-given_logits, axis=1, kind="stable")
    expected = [float(np.mean([true in row[:k] for true, row in zip(truth, order, strict=True)])) for k in (1, 5)]
    assert accuracy(given_logits, truth) == tuple(expected)


def test_confusions_are_the_worst_pairs_first() -> None:
    said, true = [1, 1, 2, 0, 1, 2, 2], [0, 0, 1, 0, 1, 0, 1]
    made = np.eye(3, dtype=np.float32)[said]
    found = confusions(made, np.array(true), ["rose", "tulip", "daisy"])
    assert found == [
        {"truth": "rose", "predicted": "tulip", "pictures": 2},
        {"truth": "tulip", "predicted": "daisy", "pictures": 2},
        {"truth": "rose", "predicted": "daisy", "pictures": 1},
    ]
    assert confusions(made, np.array(true), ["rose", "tulip", "daisy"], most=1) == found[:1]


class Sums(nn.Module):  # type: ignore[misc]
    """A network whose logits tell the order of its inputs: the sum of a picture, and its first value."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.stack([pictures.sum(dim=(1, 2, 3)), pictures[:, 0, 0, 0]], dim=1)


def pixels(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.float32).reshape(SHAPE)


@pytest.mark.parametrize("count", [1, 4, 37])
def test_logits_come_for_each_picture_in_order(count: int, tmp_path: Path) -> None:
    inputs = np.random.default_rng(1).normal(size=(count, *SHAPE)).astype(np.float32)
    pictures = [Picture(f"{number}", array.tobytes(), None) for number, array in enumerate(inputs)]
    expected = np.stack([inputs.sum(axis=(1, 2, 3)), inputs[:, 0, 0, 0]], axis=1)
    export(Sums().eval(), SHAPE, tmp_path / "model.onnx")
    told = Told()
    told.step("torch")
    assert np.allclose(torch_logits(Sums().eval(), pictures, pixels, told), expected, atol=1e-5)
    told.step("onnx")
    assert np.allclose(onnx_logits(tmp_path / "model.onnx", pictures, pixels, told), expected, atol=1e-5)
    assert told.advanced == [count, count]


def test_few_pictures_are_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, now, most = threading.Lock(), 0, 0
    monkeypatch.setattr("os.cpu_count", lambda: 2)

    class Held(np.ndarray):
        """Pixels that tell when they are gone."""

        def __del__(self) -> None:
            nonlocal now
            with lock:
                now -= 1

    def held(data: bytes) -> np.ndarray:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        return pixels(data).view(Held)

    pictures = [Picture(str(number), bytes(24), None) for number in range(200)]
    told = Told()
    told.step("torch")
    torch_logits(Sums().eval(), pictures, held, told)
    assert 0 < most <= 16


class Interrupted(Told):
    """Somebody presses Ctrl-C while the progress is shown."""

    def advance(self, count: int = 1) -> None:
        """End the build."""
        raise KeyboardInterrupt


def test_little_is_begun_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    seen: list[bytes] = []
    never = threading.Event()

    def slow(data: bytes) -> np.ndarray:
        seen.append(data)
        if any(data):  # every picture but those of the first pass
            never.wait(0.1)
        return pixels(data)

    pictures = [Picture(str(number), bytes([number // 4] * 24), None) for number in range(200)]
    with pytest.raises(KeyboardInterrupt):
        torch_logits(Sums().eval(), pictures, slow, Interrupted())
    assert len(seen) <= 40


def test_the_threads_of_torch_are_given_back_after_an_error() -> None:
    def broken(data: bytes) -> np.ndarray:
        raise BuildError("no picture")

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(BuildError, match="no picture"):
            torch_logits(Sums().eval(), [Picture("one", b"", None)], broken, Told())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
