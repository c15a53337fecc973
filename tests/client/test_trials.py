"""A model is tried in processes of their own, and what ends one is told in a sentence."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil
import pytest

from tests.pushable import giving_nan, pushable
from tests.running import ROOT
from tierserve import trials
from tierserve.errors import TierserveError
from tierserve.trials import try_all

VARIANTS = ("onnx/int8", "onnx/fp32")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that runs in the place of ``python -m model``."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    return tmp_path / "model" / "__main__.py"


def failure(directory: Path, variants: tuple[str, ...] = VARIANTS[:1]) -> str:
    with pytest.raises(TierserveError) as caught:
        asyncio.run(try_all(directory, variants))
    return str(caught.value)


def test_every_variant_of_a_good_model_is_tried(models: Path) -> None:
    assert asyncio.run(try_all(models / "tf_efficientnet_lite0", VARIANTS)) == ()


def test_one_bad_variant_fails_all(models: Path, tmp_path: Path) -> None:
    nan = pushable(models / "tf_efficientnet_lite0", tmp_path, variants=[("onnx", "fp32")], change=giving_nan)
    said = failure(nan, ("onnx/fp32",))
    assert said.startswith(f"onnx/fp32 was tried as a worker runs it, and failed: {nan.name} fails on a made picture")
    assert "not finite" in said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed (SIGSEGV)"),
        ("import os; os.write(2, b'no\\nmemory\\n'); os.abort()", "crashed (SIGABRT): memory"),
        ("import os; os.write(2, b'x' * 10_000_000 + b' last'); os._exit(7)", "ended with status 7: xxx"),
    ],
)
def test_a_crash_is_told_with_its_signal_and_its_last_words(stand_in: Path, code: str, said: str) -> None:
    stand_in.write_text(code)
    told = failure(stand_in.parent)
    assert f"onnx/int8 was tried as a worker runs it, and {said}" in told
    assert len(told) < 2 * trials.LAST_BYTES


def test_a_trial_that_takes_too_long_is_killed(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "TRIAL_SECONDS", 0.5)
    stand_in.write_text("import time; time.sleep(60)")
    began = time.monotonic()
    assert "took longer than 0.5 s" in failure(stand_in.parent, VARIANTS)
    assert time.monotonic() - began < 30
    assert not [child for child in psutil.Process().children() if "try" in child.cmdline()]


def test_what_is_not_installed_is_told_and_nothing_at_all_is_an_error(stand_in: Path) -> None:
    stand_in.write_text("import sys; sys.exit(4 if sys.argv[-1] == 'int8' else 0)")
    assert asyncio.run(try_all(stand_in.parent, VARIANTS)) == ("onnx/int8",)
    stand_in.write_text("import sys; print('torch is not installed here', file=sys.stderr); sys.exit(4)")
    assert failure(stand_in.parent, VARIANTS) == (
        "none of onnx/int8, onnx/fp32 can be tried here: torch is not installed here"
    )
