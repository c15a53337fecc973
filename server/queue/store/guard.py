"""Who may use a data directory: one process, on a filesystem of this machine."""

from __future__ import annotations

import fcntl
import os
import platform
import re
from contextlib import suppress
from pathlib import Path

from server import files
from server.queue.facts.errors import CannotOpen, DataInUse, NetworkFilesystem

# SQLite's WAL needs working locks and memory shared between processes; these keep neither promise. A "fuse." in front
# is taken off before comparing. 9p is what WSL and some sandboxes put between a guest and its host's files.
# fmt: off
NETWORK = frozenset({
    "9p", "afs", "beegfs", "ceph", "cephfs", "cifs", "coda", "davfs", "davfs2", "gcsfuse", "gfarm", "glusterfs",
    "goofys", "gpfs", "lustre", "mountpoint-s3", "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "pvfs2", "rclone",
    "s3fs", "smb2", "smb3", "smbfs", "sshfs",
})
# fmt: on


def filesystem_type(path: Path, mountinfo: str) -> str:
    """The type of the filesystem that ``path`` lies on, by the text of ``/proc/self/mountinfo``; empty if unknown."""
    here, best, kind = path.resolve(), -1, ""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        depth = len(point.parts)
        # The last of several mounts on one point hides the others.
        if depth >= best and here.is_relative_to(point):
            best, kind = depth, right.split(" ")[0]
    return kind


def refuse_network(directory: Path, kind: str | None = None) -> None:
    """Raise ``NetworkFilesystem`` if the directory lies on one; ``kind`` says its type instead of asking the system."""
    if kind is None:
        mounts = Path("/proc/self/mountinfo")
        kind = filesystem_type(directory, mounts.read_text(errors="replace") if mounts.exists() else "")
    if kind.removeprefix("fuse.") in NETWORK:
        raise NetworkFilesystem(directory, kind)


def make_directory(directory: Path) -> None:
    """Make the directory for this user alone, and its entry durable. Raises ``CannotOpen``, also for an unsafe one."""
    try:
        files.check_parent(directory)
        os.close(files.open_folder(directory))
    except OSError as error:
        raise cannot_use(directory, error) from error


def make_file(path: Path) -> None:
    """Make the database's file for this user alone, as SQLite itself would not. Raises ``CannotOpen``.

    The files that SQLite keeps beside it get the same mode, and are checked if they are there.
    """
    try:
        os.close(files.open_file(path, os.O_RDWR | os.O_CREAT))
        for beside in ("-wal", "-shm", "-journal"):
            files.check_file(path.with_name(path.name + beside))
    except OSError as error:
        raise cannot_use(path, error) from error


def cannot_use(path: Path, error: OSError) -> CannotOpen:
    """What is raised for an error of the system."""
    return CannotOpen(f"{error.filename or path} cannot be used: {error.strerror}")


class DataLock:
    """The process's hold on a data directory. The system drops it when the process ends, however it ends."""

    def __init__(self, directory: Path) -> None:
        """Take it. Raises ``DataInUse``, naming the holder, or ``CannotOpen``."""
        path = directory / "lock"
        try:
            self._handle = files.open_file(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise cannot_use(path, error) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._handle, 200, 0).decode(errors="replace").strip()
            os.close(self._handle)
            raise DataInUse(directory, holder or "another process") from None
        with suppress(OSError):  # on a full disk nobody is told who holds it
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)

    def release(self) -> None:
        """Let it go; the file stays, since removing it would let two processes lock two files."""
        os.close(self._handle)
