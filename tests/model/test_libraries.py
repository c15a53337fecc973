"""What is said where torch or timm is missing. It is asked in environments that really are without them."""

from __future__ import annotations

import shutil
import subprocess
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest

from model import libraries

ROOT = Path(__file__).parents[2]
ASKS = "import sys; from model import libraries; print(libraries.missing(*sys.argv[1:]))"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder like a checkout: its Makefile, its environment, which is empty, and a part of the package ``model``."""
    venv.create(tmp_path / ".venv", symlinks=True, with_pip=False)
    (tmp_path / "Makefile").touch()
    (tmp_path / "model" / "build").mkdir(parents=True)
    for name in ("__init__.py", "libraries.py"):
        shutil.copy(ROOT / "model" / name, tmp_path / "model")
    return tmp_path


def said(root: Path, *also: str, program: Path | None = None) -> str:
    asked: list[str | Path] = [program or root / ".venv" / "bin" / "python", "-c", ASKS, *also]
    done = subprocess.run(asked, cwd=root, env={}, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def test_a_checkout_names_what_is_missing_its_size_and_one_command(root: Path) -> None:
    assert said(root) == f"torch and timm are not installed here ({libraries.SIZE}); install with: make timm"


def test_a_package_names_the_extra(root: Path) -> None:
    (root / "Makefile").unlink()
    assert said(root).endswith("; install with: pip install 'tierserve[timm]'")


def test_another_environment_on_the_files_of_a_checkout_is_not_filled_by_make(root: Path) -> None:
    (root / ".venv").rename(root / "other")
    assert said(root, program=root / "other" / "bin" / "python").endswith("pip install 'tierserve[timm]'")


def test_an_image_of_workers_names_the_image_that_has_them(root: Path) -> None:
    (root / "model" / "build").rmdir()
    assert said(root).endswith("so give the tier's Jobs the image worker-timm")
    assert "install with" not in said(root)


@pytest.mark.parametrize(("present", "absent"), [("torch", "timm"), ("timm", "torch")])
def test_one_of_the_two_is_not_enough_and_neither_is_imported(root: Path, present: str, absent: str) -> None:
    (root / present).mkdir()
    (root / present / "__init__.py").write_text("raise SystemExit('it was imported')")
    assert said(root).startswith(f"{absent} is not installed here (")


def test_a_caller_can_need_more_of_the_extra(root: Path) -> None:
    assert said(root, "onnxscript").startswith("torch, timm and onnxscript are not installed here (")
    for name in ("torch", "timm"):
        (root / f"{name}.py").touch()
    assert said(root) == "None"
    assert said(root, "onnxscript").startswith("onnxscript is not installed here (")


def test_a_line_fits_where_a_server_shows_it(root: Path) -> None:
    """A server shows 300 characters of a worker's last line."""
    for _ in range(2):
        assert len(said(root)) < 200
        shutil.rmtree(root / "model" / "build", ignore_errors=True)


@pytest.mark.skipif(find_spec("torch") is None or find_spec("timm") is None, reason="make timm installs torch and timm")
def test_nothing_is_missing_where_both_are_there() -> None:
    assert libraries.missing() is None
