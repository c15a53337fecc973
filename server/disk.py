"""The room on a filesystem. Part of it is kept free, so that what was accepted can be finished when the rest is full.

New pictures never take the *reserve*. The *ballast* is a file of the same size beside the database. It is deleted when
something else has taken the reserve, such as another program or the database's log, and made again when there is room.
"""

from __future__ import annotations

import errno
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

BALLAST = "ballast.bin"  # with a dot: never the name of a blob
# Results grow the database before pictures shrink the disk: 2,000 waiting predictions (two tiers' queues) with the
# longest results of 40 KB each take 80 MB, and SQLite's log 16 MB. Reserve and ballast are 128 MiB together.
RESERVE_BYTES = 64 * 1024 * 1024
RESERVE_SHARE = 8  # of a smaller filesystem, no more than this part of it, twice
UNKNOWN_BYTES = 1 << 62
RESERVE_FILES = 64  # inodes: a disk can have room and take no file
# In quarters of the reserve: below these, the disk counts as full and the ballast goes; from these on, the disk takes
# pictures again and the ballast is made again. A picture of up to a quarter (16 MiB) is refused only on a full disk.
FULL_BELOW, DRAINED_BELOW = 5, 2
OPEN_FROM, REFILLED_FROM = 6, 10
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Room:
    """What there is on a filesystem. ``free`` bytes are left, and new pictures leave ``reserve`` of them.

    ``full``: nothing new is taken until there is clearly more room than that.
    """

    free: int
    reserve: int
    full: bool
    read_only: bool

    @property
    def quarters(self) -> float:
        """How many quarters of the reserve are free."""
        return 4 * self.free / self.reserve if self.reserve else math.inf


class NoRoom(OSError):
    """What is to be written would take the reserve; ``room`` says what there is."""

    def __init__(self, room: Room) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room = room


class Disk:
    """The filesystem of a folder. Safe from any thread; every method may block on the disk.

    ``ballast`` is for the folder of a database; then the disk's ``name`` is ``data``, else ``blobs``. Where only
    pictures are stored, deleting them needs no room.
    """

    def __init__(self, folder: Path, *, ballast: bool = False) -> None:
        self.folder, self.name = folder, "data" if ballast else "blobs"
        self._ballast = folder / BALLAST if ballast else None
        self._lock = threading.Lock()
        self._claimed = 0
        self._full = False
        self._drained = False  # the ballast was needed, and is not back yet

    def look(self) -> Room:
        """What there is now; deletes the ballast, or makes it again, where that is due. Raises ``OSError``."""
        with self._lock:
            room = self._measure()
            if self._ballast is not None and room.reserve and not room.read_only:
                held = self._ballast.exists()
                if held and room.quarters < DRAINED_BELOW:
                    self._drain(self._ballast)
                    room = self._measure()
                elif not held and room.quarters >= REFILLED_FROM:
                    self._drained = not _make(self._ballast, room.reserve)
                    room = self._measure()
                else:
                    self._drained = not held
            self._full = self._drained or room.quarters < (OPEN_FROM if self._full else FULL_BELOW)
            return self._told(room)

    def make_room(self) -> bool:
        """A write found no room: delete the ballast; whether there was one."""
        with self._lock:
            self._full = True
            if self._ballast is None or not self._ballast.exists():
                return False
            return self._drain(self._ballast)

    @contextmanager
    def claim(self, size: int, reserves: int = 1) -> Iterator[None]:
        """Write so many new bytes while the block lasts, and leave so many times the reserve. Raises ``NoRoom``."""
        with self._lock:
            room = self._measure()
            # What others have claimed may be written already, so it can count twice. That errs on the safe side.
            if self._full or room.free - self._claimed - size < reserves * room.reserve:
                raise NoRoom(self._told(room))
            self._claimed += size
        try:
            yield
        finally:
            with self._lock:
                self._claimed -= size

    def close(self) -> None:
        """Delete the ballast: whoever opens the folder next needs room, and a folder in no use needs no ballast."""
        with self._lock, suppress(OSError):
            if self._ballast is not None:
                self._ballast.unlink(missing_ok=True)

    def _drain(self, ballast: Path) -> bool:
        self._drained = self._full = True
        with suppress(OSError):
            ballast.unlink(missing_ok=True)
            return True
        return False

    def _measure(self) -> Room:
        found = os.statvfs(self.folder)
        size = found.f_blocks * found.f_frsize
        if not size:  # some network and virtual filesystems do not tell
            return Room(UNKNOWN_BYTES, 0, self._full, bool(found.f_flag & os.ST_RDONLY))
        reserve = min(RESERVE_BYTES, size // RESERVE_SHARE)
        # Filesystems without a fixed number of inodes say that they have none.
        files = not found.f_files or found.f_favail >= RESERVE_FILES
        free = found.f_bavail * found.f_frsize if files else 0
        return Room(free, reserve, self._full, bool(found.f_flag & os.ST_RDONLY))

    def _told(self, room: Room) -> Room:
        return Room(room.free, room.reserve, self._full, room.read_only)


def is_full(error: OSError) -> bool:
    """Whether a write failed because there was no room."""
    return error.errno in FULL


def _make(ballast: Path, size: int) -> bool:
    """Whether the file could be made, in full."""
    try:
        descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)
    except OSError:
        with suppress(OSError):
            ballast.unlink(missing_ok=True)
        return False
    return True
