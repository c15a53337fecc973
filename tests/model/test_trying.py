"""A model is tried on one made picture: what answers well passes, and anything else is told in a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.runtimes.base import Model, ModelError, Runtime, read_model
from model.runtimes.onnx import OnnxRuntime
from model.trial import try_out
from tests.pushable import giving_nan, pushable
from tests.running import ROOT

TRIAL_SECONDS = 0.05


class Answering(OnnxRuntime):
    """Loads nothing, and gives every picture the same answer."""

    def __init__(self, answer: list[float] | None) -> None:
        self._answer, self.seen = answer, list[NDArray[np.float32]]()

    def predict(self, batch: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        self.seen += batch
        if self._answer is None:
            raise RuntimeError("the graph's nodes do not fit together")
        return [np.array(self._answer, np.float32) for _ in batch]


@pytest.fixture(scope="module")
def lite0(models: Path) -> Model:
    return read_model(models / "tf_efficientnet_lite0")


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_a_good_model_passes_within_a_picture_s_time(lite0: Model, variant: str) -> None:
    runtime: Runtime = OnnxRuntime()
    runtime.setup(lite0, variant)
    try_out(lite0, runtime)
    times = []
    for _ in range(5):
        began = time.process_time()  # of the processor, which others may be using, too
        try_out(lite0, runtime)
        times.append(time.process_time() - began)
    assert min(times) < TRIAL_SECONDS


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([float("nan")] * 1000, "logits that are not finite"),
        ([float("inf")] + [0.0] * 999, "logits that are not finite"),
        ([0.5, 0.5], r"shape \(2,\) for 1000 classes"),
        (None, "RuntimeError: the graph's nodes do not fit together"),
    ],
)
def test_another_answer_is_refused_with_the_model_s_name(lite0: Model, answer: list[float] | None, said: str) -> None:
    runtime = Answering(answer)
    with pytest.raises(ModelError, match=f"{lite0.reference} fails on a made picture.*{said}"):
        try_out(lite0, runtime)
    (picture,) = runtime.seen
    assert picture.shape == lite0.preprocessing.shape
    assert picture.dtype == np.float32
    assert picture.std() > 0.1


def tried(directory: Path, runtime: str = "onnx", variant: str = "int8") -> tuple[int, str]:
    """What ``python -m model try`` does: its exit status, and what it says."""
    command = [sys.executable, "-P", "-m", "model", "try", str(directory), runtime, variant]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_the_command_says_nothing_of_a_good_model(models: Path, tmp_path: Path) -> None:
    assert tried(models / "tf_efficientnet_lite0") == (0, "")
    assert tried(pushable(models / "tf_efficientnet_lite0", tmp_path)) == (0, "")


@pytest.mark.parametrize(
    ("change", "said"),
    [(giving_nan, "logits that are not finite"), (lambda _: b"no graph", "cannot be loaded: InvalidProtobuf")],
)
def test_the_command_tells_what_is_wrong(
    models: Path, tmp_path: Path, change: Callable[[bytes], bytes], said: str
) -> None:
    made = pushable(models / "tf_efficientnet_lite0", tmp_path, change=change)
    status, told = tried(made)
    assert (status, len(told.splitlines())) == (1, 1)
    assert made.name in told
    assert said in told


def test_a_record_that_was_changed_and_a_missing_variant_are_told(models: Path, tmp_path: Path) -> None:
    made = pushable(models / "tf_efficientnet_lite0", tmp_path)
    assert "has no variant onnx/fp32" in tried(made, "onnx", "fp32")[1]
    record = made / "model.json"
    record.write_text(record.read_text("utf-8").replace('"class 7"', '"class seven"'), "utf-8")
    status, told = tried(made)
    assert status == 1
    assert "The record of flowers@" in told
    assert "was changed" in told


def test_a_library_that_is_not_installed_has_an_exit_status_of_its_own(models: Path, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('No module named onnxruntime')")
    command = [sys.executable, "-P", "-m", "model", "try", str(models / "tf_efficientnet_lite0"), "onnx", "int8"]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert (done.returncode, done.stderr) == (4, "the library is not installed: No module named onnxruntime\n")
