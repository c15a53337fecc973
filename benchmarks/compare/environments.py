"""An environment for each other server, outside the checkout, so that no server's needs limit another's."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.compare.peers import Unavailable

UV = (sys.executable, "-m", "uv")
INSTALL_SECONDS = 1200.0
MARK = "installed-by-compare"


def cache() -> Path:
    """The folder of all environments, which may be removed at any time (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tierserve" / "compare"


def python_of(requirements: Path, folder: Path) -> Path:
    """The interpreter of an environment with these requirements. It is made anew when they have changed.

    Raises ``Unavailable`` if it cannot be made.
    """
    home = folder / requirements.stem
    python, mark = home / "bin" / "python", home / MARK
    wanted = hashlib.sha256(f"{sys.version}\n{requirements.read_text('utf-8')}".encode()).hexdigest()
    if mark.exists() and mark.read_text("utf-8") == wanted:
        return python
    _uv("venv", "--quiet", "--clear", "--python", sys.executable, str(home))
    _uv("pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(requirements))
    mark.write_text(wanted, "utf-8")
    return python


def _uv(*words: str) -> None:
    try:
        done = subprocess.run([*UV, *words], capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"could not be installed within {INSTALL_SECONDS:g} s") from error
    if done.returncode:
        raise Unavailable(f"could not be installed: {' '.join(done.stderr.split())[:300]}")
