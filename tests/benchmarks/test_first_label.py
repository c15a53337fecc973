"""The benchmark of the first label sees how far make run is, and says what went wrong; it leaves no process behind."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from benchmarks import first_label
from benchmarks.first_label import Way, fresh


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose Makefile a test writes."""
    root = tmp_path / "root"
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    monkeypatch.setattr(first_label, "ROOT", root)
    return root


def way(root: Path, recipe: str) -> Way:
    (root / "Makefile").write_text(f"run:\n\t{recipe}\n")
    author = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    subprocess.run(["git", *author, "add", "-A"], cwd=root, check=True)
    subprocess.run(["git", *author, "commit", "-q", "-m", "a Makefile"], cwd=root, check=True)
    folder = root.parent / "way"
    folder.mkdir()
    return Way(folder, lambda _: None)


def test_a_make_run_that_fails_is_told_with_what_it_said(root: Path) -> None:
    with pytest.raises(
        RuntimeError, match=r"ended before the step 'uv' was done; it said:\ninstalling nothing\nbroken"
    ):
        way(root, "@echo installing nothing; sleep 0.2; echo broken; exit 2").go()


def test_a_step_that_takes_too_long_is_told_and_everything_ended(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_label, "MOST_SECONDS", 4.0)
    walked = way(
        root, "@mkdir -p .venv/bin; echo $$$$ >.venv/bin/pid; echo installing them; touch .venv/bin/uv; sleep 60"
    )
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="the step 'packages' was not done within 4 s"):
        walked.go()
    assert time.monotonic() - began < 30
    assert [row.step for row in walked.rows] == ["virtual environment", "uv"]
    assert not psutil.pid_exists(int((walked.environment / "bin" / "pid").read_text()))


def test_make_run_finds_empty_caches_and_nothing_of_the_python_that_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "TIERSERVE_MODELS", "MAKEFLAGS", "UV_CACHE_DIR"):
        monkeypatch.setenv(name, "/somewhere")
    found = fresh(tmp_path)
    assert "/somewhere" not in found.values()
    assert found["PATH"] == os.environ["PATH"]
    assert found["PIP_CACHE_DIR"].startswith(str(tmp_path)) and found["UV_CACHE_DIR"].startswith(str(tmp_path))
