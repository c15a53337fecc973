"""What is installed is what the lock names, by its hash, and no version with a known hole can get into the lock."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
PINNED = re.compile(r"^([a-z0-9.-]+)==(\S+)((?:.*\\\n)(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)
TINY = "tiny-1.0-py3-none-any.whl"
# The first versions without the holes that were known when the floor was set.
HOLES = {
    "jinja2": "3.1.6",
    "onnx": "1.19",
    "pillow": "13",
    "pyyaml": "6",
    "setuptools": "78.1.1",
    "torch": "2.8",
    "tornado": "6.6.1",
    "urllib3": "2.6.3",
    "uv": "0.9.6",
}


def test_every_package_of_the_lock_has_one_version_and_hashes() -> None:
    names = re.findall(r"^([a-z0-9.-]+)", LOCK, re.MULTILINE)
    assert len(names) > 100
    assert [found[1] for found in PINNED.finditer(LOCK)] == names


@pytest.mark.parametrize("name", HOLES)
def test_versions_with_known_holes_are_excluded(name: str) -> None:
    wanted = re.findall(rf'"({name}(?:\[\w+\])?[<>=!~][^"]*)"', (ROOT / "setup.py").read_text())
    wanted += re.findall(rf'"({name}[<>=!~][^"]*)"', (ROOT / "pyproject.toml").read_text())
    assert wanted
    for line in wanted:
        assert [f"{one.operator}{one.version}" for one in Requirement(line).specifier] == [f">={HOLES[name]}"]
    locked = next(found[2] for found in PINNED.finditer(LOCK) if found[1] == name)
    assert Version(locked) >= Version(HOLES[name])


def test_whatever_is_installed_goes_through_the_script_that_checks_hashes() -> None:
    for name in ("Makefile", "Dockerfile"):
        text = (ROOT / name).read_text()
        assert "docker/install.sh" in text
        assert re.findall(r"pip\S* (?:--python \S+ )?(?:install|download|wheel)\b", re.sub("#.*", "", text)) == []


@pytest.mark.parametrize(("target", "torch"), [("run", False), ("models", False), ("timm", True), ("test", True)])
def test_only_what_needs_torch_installs_it(target: str, torch: bool) -> None:
    done = subprocess.run(
        ["make", "--always-make", "--just-print", target],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    extras = ",".join(re.findall(r"docker/install\.sh .* -e '\.\[(.*?)\]'", done.stdout)).split(",")
    assert {"server", "worker", "build"} <= set(extras)
    assert ("timm" in extras) == torch


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a lock, an index of one wheel, the tools and an empty virtual environment."""
    for name in ("tools", "index"):
        (tmp_path / name).mkdir()
    for tool in ("uv", "pip"):
        (tmp_path / "tools" / tool).symlink_to(Path(sys.executable).parent / tool)
    venv.create(tmp_path / "venv", with_pip=False)
    with zipfile.ZipFile(tmp_path / "index" / TINY, "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\n")
    return tmp_path


def install(project: Path, digest: str) -> subprocess.CompletedProcess[str]:
    (project / "requirements.lock").write_text(f"tiny==1.0 \\\n    --hash=sha256:{digest}\n")
    settings = {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(project / "index"), "UV_CACHE_DIR": str(project / "cache")}
    return subprocess.run(
        ["sh", ROOT / "docker" / "install.sh", "tools", "venv/bin/python", "tiny"],
        cwd=project,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def installed(project: Path) -> bool:
    return bool(list((project / "venv").rglob("tiny.py")))


def test_a_package_with_the_hash_of_the_lock_is_installed(project: Path) -> None:
    done = install(project, hashlib.sha256((project / "index" / TINY).read_bytes()).hexdigest())
    assert done.returncode == 0, done.stderr
    assert installed(project)


def test_a_package_with_another_hash_is_refused(project: Path) -> None:
    done = install(project, "0" * 64)
    assert done.returncode != 0
    assert "Hash mismatch for `tiny==1.0`" in done.stderr
    assert not installed(project)


@pytest.mark.parametrize(
    ("name", "status"),
    [(f"python:3.11-slim@sha256:{'0' * 64}", 0), ("localhost/base:1", 0), ("python:3.11-slim", 1), ("python", 1)],
)
def test_the_base_image_is_named_by_its_digest(name: str, status: int) -> None:
    """The step of the Dockerfile that every target depends on."""
    step = re.search(
        r'^RUN (case "\$BASE_IMAGE" in .*?esac)$', (ROOT / "Dockerfile").read_text(), re.MULTILINE | re.DOTALL
    )
    assert step
    done = subprocess.run(["sh", "-c", step[1]], env={"BASE_IMAGE": name}, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert ("--build-arg BASE_IMAGE=" in done.stderr) == bool(status)
