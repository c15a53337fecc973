"""An environment with the client packages of Triton and of KServe, outside the checkout, and scripts that run in it.

Beside the packages of tierserve's own tests they would pull back protobuf, psutil and others.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

from tests.cluster.shell import ROOT, Say, direct, locked, run
from tests.running import lacking

HERE = Path(__file__).parent
NEEDS, LOCK = HERE / "requirements.in", HERE / "requirements.lock"
INSTALL_SECONDS = 1200.0
MISSING = "no environment with the clients of Triton and KServe: make foreign"


def folder() -> Path:
    """The folder of the environment for this interpreter and these versions, whether it is made or not."""
    digest = hashlib.sha256(f"{sys.version}\n{NEEDS.read_text()}\n{LOCK.read_text()}".encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tierserve" / "foreign" / digest.hexdigest()[:12]


def made() -> bool:
    """Whether the environment is there, and whole."""
    return (folder() / "made").exists()


def ensure(say: Say = lambda line: None) -> None:
    """Make the environment where it is not made yet. Raises ``ClusterError`` with the installer's complaint."""
    home = folder()
    with locked(home.parent / ".lock", say):
        if made():
            return
        say(f"installing the clients of Triton and KServe, some 370 MB, in {home}")
        venv.create(home, clear=True, symlinks=True)
        install: list[str | Path] = [
            "sh",
            ROOT / "docker" / "install.sh",
            Path(sys.executable).parent,
            home / "bin" / "python",
        ]
        run("env", f"--chdir={HERE}", *install, "-r", NEEDS.name, timeout=INSTALL_SECONDS)
        (home / "made").touch()


def foreign(*words: str | Path, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run the environment's Python with these words: ``foreign("-c", code, url)`` or ``foreign(script, url)``.

    The Python sees neither this checkout nor a proxy. The caller judges the exit status. Where the environment is not
    made, the test is skipped, or fails if ``CI=true``. Raises ``subprocess.TimeoutExpired``.
    """
    if not made():
        lacking(MISSING)
    python = folder() / "bin" / "python"
    return subprocess.run(
        [python, "-I", *words], capture_output=True, text=True, timeout=seconds, check=False, env=direct()
    )
