"""A variant is measured in a real process that does what a worker does; what is wrong with it is told in a sentence."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import numpy_helper
from PIL import Image

from model.build import trial
from model.build.errors import BuildError
from model.build.pictures import Picture
from model.build.trial import Speed, measure
from model.description import Model, write_model
from tests.model.build.directory import described, made, variant
from tests.model.build.test_export import network
from tests.waiting import eventually

SECONDS = 60.0


def pictures(count: int = 3) -> list[Picture]:
    made_pictures = []
    for number in range(count):
        file = io.BytesIO()
        Image.new("RGB", (320, 240), (40 * number % 256, 90, 120)).save(file, "JPEG")
        made_pictures.append(Picture(str(number), file.getvalue(), None))
    return made_pictures


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return made(tmp_path_factory.mktemp("model"), network("test_resnet"))


@pytest.fixture
def spoilt(model: Model, tmp_path: Path) -> Callable[[Callable[[np.ndarray], np.ndarray]], Path]:
    """Write a copy of the model whose ONNX file has another bias in its last layer."""

    def spoil(change: Callable[[np.ndarray], np.ndarray]) -> Path:
        graph = onnx.load(model.path / "model.onnx")
        (bias,) = (one for one in graph.graph.initializer if one.name == "fc.bias")
        bias.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(bias)), bias.name))
        onnx.save(graph, tmp_path / "model.onnx")
        write_model(described(tmp_path, [variant(tmp_path, "onnx", "fp32", "model.onnx")]))
        return tmp_path

    return spoil


@pytest.mark.parametrize("runtime", ["onnx", "timm"])
def test_both_runtimes_are_measured(model: Model, runtime: str) -> None:
    speed = measure(model.path, runtime, "fp32", pictures(), SECONDS)
    assert 0.1 < speed.ms < 1000
    assert speed.images_per_second > 1
    # onnx without torch is small; a peak that this process had, with torch, must not count.
    assert (20 < speed.memory_mb < 150) if runtime == "onnx" else (150 < speed.memory_mb < 2000)


def test_files_and_pictures_of_which_some_are_not_used_are_measured_too(model: Model, tmp_path: Path) -> None:
    (tmp_path / "one.jpg").write_bytes(pictures(1)[0].read())
    speed = measure(model.path, "onnx", "fp32", [Picture("one.jpg", tmp_path / "one.jpg", 1)] * 100, SECONDS)
    assert speed.ms > 0


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_refused(
    spoilt: Callable[[Callable[[np.ndarray], np.ndarray]], Path], wrong: float
) -> None:
    folder = spoilt(lambda bias: bias + np.float32(wrong))
    with pytest.raises(BuildError, match=r"The variant onnx/fp32 was tried .* not finite"):
        measure(folder, "onnx", "fp32", pictures(), SECONDS)


def test_another_number_of_classes_is_refused(model: Model, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes((model.path / "model.onnx").read_bytes())
    write_model(described(tmp_path, [variant(tmp_path, "onnx", "fp32", "model.onnx")], labels=("rose", "tulip")))
    with pytest.raises(BuildError, match=r"shape \(3,\) for 2 classes"):
        measure(tmp_path, "onnx", "fp32", pictures(), SECONDS)


def test_a_damaged_file_and_a_broken_picture_are_told(model: Model, tmp_path: Path) -> None:
    good = variant(model.path, "onnx", "fp32", "model.onnx")
    (tmp_path / "model.onnx").write_bytes(bytes(good.bytes))
    write_model(described(tmp_path, [good]))
    with pytest.raises(BuildError, match="does not match its checksum"):
        measure(tmp_path, "onnx", "fp32", pictures(), SECONDS)
    with pytest.raises(BuildError, match="not a JPEG, PNG, WebP"):
        measure(model.path, "onnx", "fp32", [Picture("noise", b"noise", None)], SECONDS)


def test_a_crash_is_told_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    write_model(described(tmp_path, [variant(tmp_path, "onnx", "fp32", "model.onnx")]))
    with pytest.raises(BuildError, match=r"ended with status 1\. Its last words: .*InvalidProtobuf"):
        measure(tmp_path, "onnx", "fp32", pictures(), SECONDS)


def children(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if str(folder) in (process.info["cmdline"] or []) and "model.build.trial" in process.info["cmdline"]:
            found.append(process)
    return found


def test_a_trial_that_takes_too_long_is_killed(model: Model) -> None:
    with pytest.raises(BuildError, match=r"took longer than 0\.2 s"):
        measure(model.path, "timm", "fp32", pictures(), 0.2)
    assert children(model.path) == []


def test_an_interrupt_kills_the_trial_and_leaves_no_file(model: Model, tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from model.build.pictures import Picture
from model.build.trial import measure
measure(Path(sys.argv[1]), "timm", "fp32", [Picture("one", Path(sys.argv[2]).read_bytes(), None)], 60)
"""
    (folder := tmp_path / "temporary").mkdir()
    (tmp_path / "one.jpg").write_bytes(pictures(1)[0].read())
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(model.path), str(tmp_path / "one.jpg")],
        env={**os.environ, "TMPDIR": str(folder)},
        stderr=subprocess.DEVNULL,
    )
    eventually(lambda: children(model.path), 30, "the process of the trial")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    assert children(model.path) == []
    assert list(folder.iterdir()) == []


class Clock:
    """Each picture takes as long as it says."""

    def __init__(self, seconds: float) -> None:
        self.now, self._seconds = 0.0, seconds

    def __call__(self) -> float:
        self.now += self._seconds
        return self.now


@pytest.mark.parametrize(
    ("seconds", "runs"),
    [(0.5, 20), (0.01, 50), (4.0, 3)],  # 20 pictures; 0.5 s; 10 s
)
def test_a_trial_lasts_twenty_pictures_and_half_a_second_but_ten_at_most(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, runs: int
) -> None:
    classified: list[bytes] = []
    monkeypatch.setattr(trial, "_classify", lambda model, runtime, data: classified.append(data))
    for number in range(5):
        (tmp_path / str(number)).write_bytes(bytes([number]))
    speed = trial._time(model, None, sorted(tmp_path.iterdir()), Clock(seconds))  # type: ignore[arg-type]
    assert speed.ms == pytest.approx(1000 * seconds)
    assert speed.images_per_second == pytest.approx(1 / seconds)
    assert abs(len(classified) - trial.WARM_UP - runs) <= 1  # a sum of many tenths is not exact
    assert len(set(classified)) == 5


def test_the_child_prints_one_line(model: Model, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(pictures(1)[0].read())
    command = [sys.executable, "-m", "model.build.trial", str(model.path), "onnx", "fp32", str(tmp_path)]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    assert time.monotonic() - began >= trial.LEAST_SECONDS
    assert len(done.stdout.splitlines()) == 1
    assert set(json.loads(done.stdout)) == {field.name for field in dataclasses.fields(Speed)}
