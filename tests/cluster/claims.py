"""Which clusters this host has: for each number in use there is a file that names the cluster's folder.

The file is written before anything else of a cluster is made, and removed after everything else is gone. So a cluster
that was interrupted at any moment is found again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

CLAIMS = Path("/run/tierserve-clusters")


def claims() -> dict[int, Path]:
    """The folder of each cluster, by number."""
    if not CLAIMS.exists():
        return {}
    return {int(path.name): Path(path.read_text()) for path in sorted(CLAIMS.glob("[0-9]"))}


def number_of(folder: Path) -> int | None:
    """The number of the cluster in a folder, if there is one."""
    return next((number for number, owner in claims().items() if owner == folder), None)


def claim(number: int, folder: Path) -> bool:
    """Take a number. Returns False when another cluster has taken it."""
    CLAIMS.mkdir(exist_ok=True)
    draft = CLAIMS / f"draft-{os.getpid()}"
    draft.write_text(str(folder))
    try:
        os.link(draft, CLAIMS / str(number))  # so the file appears with its content, or not at all
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def release(number: int) -> None:
    """Give a number back, when nothing of the cluster is left."""
    (CLAIMS / str(number)).unlink(missing_ok=True)
    for draft in CLAIMS.glob("draft-*"):
        draft.unlink(missing_ok=True)
    with suppress(OSError):  # other clusters have files there
        CLAIMS.rmdir()
