"""The cgroup of all pods of a node: one in each hierarchy of cgroups version 1, or one in that of version 2."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
EMPTY_SECONDS = 60.0


def create(name: str) -> None:
    """Make the cgroup."""
    for root in _hierarchies():
        (root / name).mkdir(exist_ok=True)
    for file in ("cpuset.cpus", "cpuset.mems"):  # in version 1 a new cgroup may use none of either
        for path in (root / name / file for root in _hierarchies() if root.name == "cpuset"):
            path.write_text((path.parents[1] / file).read_text())
    if (controllers := MOUNT / "cgroup.controllers").exists():
        for child in controllers.read_text().split():
            (MOUNT / "cgroup.subtree_control").write_text(f"+{child}")


def remove(name: str) -> None:
    """Remove the cgroup and all below it when its last process has ended. Raises ``OSError`` if one does not end."""
    end = time.monotonic() + EMPTY_SECONDS
    for path in list(_tree(name)):
        while True:
            try:
                path.rmdir()
            except FileNotFoundError:
                pass
            except OSError:  # the kernel takes a moment to remove killed processes
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
                continue
            break


def exists(name: str) -> bool:
    """Whether the cgroup exists in any hierarchy."""
    return any(True for _ in _tree(name))


def _tree(name: str) -> Iterator[Path]:
    """Every directory of the cgroup, children first."""
    for root in _hierarchies():
        if (root / name).exists():
            with suppress(FileNotFoundError):
                yield from sorted((path for path in (root / name).rglob("*") if path.is_dir()), reverse=True)
            yield root / name


def _hierarchies() -> list[Path]:
    if (MOUNT / "cgroup.controllers").exists():
        return [MOUNT]
    return [path for path in MOUNT.iterdir() if path.is_dir() and not path.is_symlink()]
