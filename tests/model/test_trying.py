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


# Without site-packages, and so without numpy; the model's package is found by PYTHONPATH.
BARE = (sys.executable, "-S", "-P", "-m", "model")


def bare(*words: str | Path, **env: str) -> tuple[int, str]:
    """What ``python -m model`` does, and says, where no library at all is installed."""
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env}
    done = subprocess.run([*BARE, *words], capture_output=True, text=True, timeout=60, check=False, env=variables)
    return done.returncode, done.stderr


def test_a_library_that_is_not_installed_has_an_exit_status_of_its_own(models: Path) -> None:
    lite0 = models / "tf_efficientnet_lite0"
    status, said = bare("try", lite0, "onnx", "int8")
    assert (status, said) == (4, "numpy is not installed here; install with: pip install 'tierserve[worker]'\n")
    status, said = bare("try", lite0, "timm", "fp32")
    assert (status, len(said.splitlines())) == (4, 1)


@pytest.mark.parametrize("runtime", ["onnx", "timm"])
def test_a_worker_without_its_library_says_so_in_its_last_line(models: Path, runtime: str) -> None:
    """The last line of a worker is the reason that its server shows."""
    words = ("work", "--model", "tf_efficientnet_lite0", "--models", models, "--runtime", runtime)
    status, said = bare(*words, TIERSERVE_SERVER="http://127.0.0.1:9", TIERSERVE_TOKEN="x")
    assert status == 4
    assert said.startswith("cannot set up: numpy is not installed here; install with: pip install")
    assert len(said.splitlines()) == 1
