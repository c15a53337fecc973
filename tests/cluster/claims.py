"""Which clusters there are on this host: a file for each number, with the folder of the cluster that has it.

It is written before anything else is made and removed after everything else is gone, so a cluster that was interrupted
at any moment is found again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

CLAIMS = Path("/run/tierserve-clusters")


def claims() -> dict[int, Path]:
    """Each number in use, and its cluster's folder."""
    if not CLAIMS.exists():
        return {}
    return {int(path.name): Path(path.read_text()) for path in sorted(CLAIMS.glob("[0-9]"))}


def number_of(folder: Path) -> int | None:
    """The number of the cluster in a folder."""
    return next((number for number, owner in claims().items() if owner == folder), None)


def claim(number: int, folder: Path) -> bool:
    """Take a number; false when somebody else was faster."""
    CLAIMS.mkdir(exist_ok=True)
    draft = CLAIMS / f"draft-{os.getpid()}"
    draft.write_text(str(folder))
    try:
        os.link(draft, CLAIMS / str(number))  # with its content, or not at all
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def release(number: int) -> None:
    """Give a number back."""
    (CLAIMS / str(number)).unlink(missing_ok=True)
    for draft in CLAIMS.glob("draft-*"):
        draft.unlink(missing_ok=True)
    with suppress(OSError):  # there are others
        CLAIMS.rmdir()
