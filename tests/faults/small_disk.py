"""A filesystem of some megabytes, which a test can fill without harm to the machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEGABYTES = 64


@contextmanager
def small_disk(folder: Path, megabytes: int = MEGABYTES) -> Iterator[Path | None]:
    """Mount it at the folder while the block lasts. Where that is not allowed, make a plain folder and yield None."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tierserve-faults", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        # Lazy, because a process that has just been killed may still have files open there.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
