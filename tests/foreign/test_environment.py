"""The environment of other projects' clients has them in the locked versions, and sees nothing of this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.foreign import environment
from tests.foreign.environment import LOCK, foreign
from tests.running import ROOT

VERSIONS = """
from importlib.metadata import version
import kserve, tritonclient.http
print(f"kserve=={version('kserve')} tritonclient=={version('tritonclient')}")
"""
SHADOW = "import importlib.util; print(importlib.util.find_spec('server'), importlib.util.find_spec('torch'))"


def test_the_clients_of_triton_and_kserve_are_there_in_the_locked_versions() -> None:
    done = foreign("-c", VERSIONS)
    assert done.returncode == 0, done.stderr
    locked = LOCK.read_text()
    for pin in done.stdout.split():
        assert f"\n{pin} \\\n" in locked


def test_a_script_gets_its_words_and_sees_neither_tierserve_nor_its_packages(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"import sys; print(sys.argv[1:]); {SHADOW}")
    done = foreign(script, "http://127.0.0.1:1", "free")
    assert done.stdout.splitlines() == ["['http://127.0.0.1:1', 'free']", "None None"], done.stderr


def test_without_the_environment_a_test_is_skipped_and_fails_where_everything_has_to_be_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make foreign"):
        foreign("-c", "")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="make foreign"):
        foreign("-c", "")


def test_an_environment_that_could_not_be_made_is_not_used(tmp_path: Path) -> None:
    """The packages cannot be installed where there is neither an index nor a cache."""
    settings = {"XDG_CACHE_HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "uv"), "UV_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.foreign"],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "ended with" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.rglob("bin/python"))
    assert not list(tmp_path.rglob("made"))


def test_other_versions_have_an_environment_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment.folder()
    lock = tmp_path / "requirements.lock"
    lock.write_text(LOCK.read_text().replace("kserve==", "kserve==1"))
    monkeypatch.setattr(environment, "LOCK", lock)
    assert environment.folder() != before
