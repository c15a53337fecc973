"""A filesystem of a few megabytes, mounted for as long as it is used: it can be filled without harm to the machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEGABYTES = 64


@contextmanager
def small_disk(folder: Path, megabytes: int = MEGABYTES) -> Iterator[Path | None]:
    """Mount it at the folder; None, and a plain folder, where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tierserve-faults", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
