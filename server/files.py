"""Makes and opens the files and folders of the state, and refuses those in which other users could have a hand."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path

FILE_MODE, FOLDER_MODE = 0o600, 0o700
# O_NONBLOCK changes nothing for files; a pipe of the same name would otherwise be waited for.
_ALWAYS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class UnsafePath(OSError):
    """A file or folder is not this user's own; ``strerror`` says what is wrong and which command mends it."""

    def __init__(self, path: Path, what: str, remedy: str) -> None:
        super().__init__(errno.EPERM, f"{what}: {remedy}", str(path))


def open_file(path: Path, flags: int, folder: int | None = None) -> int:
    """Open a file, made for this user alone where ``flags`` contains ``O_CREAT``, and return its descriptor.

    ``folder`` is the descriptor of an open folder that ``path`` lies in directly. Raises ``UnsafePath`` for a link, a
    thing that is no file and a file that other users own or can write to; ``OSError`` where it cannot be opened.
    """
    name = path if folder is None else path.name
    try:
        descriptor = os.open(name, flags & ~os.O_TRUNC | _ALWAYS, FILE_MODE, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _link(path) from None
        raise
    try:
        _check_file(path, os.fstat(descriptor))
        if flags & os.O_TRUNC:  # only now: it may have been somebody else's file
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_file(path: Path) -> None:
    """Check a file that a library opens by its name, if it is there. Raises ``UnsafePath``."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise _link(path)
    _check_file(path, found)


def open_folder(path: Path) -> int:
    """Open a folder, made for this user alone with all that is missing above it, and return its descriptor.

    Its entry is on disk then. Raises ``UnsafePath`` for a link and a folder in which other users can make or replace
    files; ``OSError`` where it cannot be made or opened.
    """
    _make_folder(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _ALWAYS)
    except NotADirectoryError:
        if path.is_symlink():
            raise _link(path) from None
        raise
    try:
        _check_folder(path, os.fstat(descriptor), sticky_is_safe=False)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_parent(path: Path) -> None:
    """Check the folder that a folder of the state lies in: nobody else may replace what is in it.

    It is made if it is missing. A link to it is followed, as whoever starts the server has named it. Raises
    ``UnsafePath`` or ``OSError``.
    """
    parent = path.absolute().parent
    _make_folder(parent)
    _check_folder(parent, parent.stat(), sticky_is_safe=True)


def _make_folder(path: Path) -> None:
    path = path.absolute()
    for folder in reversed([one for one in (path, *path.parents) if not os.path.lexists(one)]):
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        # A new folder is durable only once the folder that lists it has been synced.
        above = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(above)
        finally:
            os.close(above)


def _check_file(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UnsafePath(path, "it is no file", f"remove it: rm {_quoted(path)}")
    if found.st_nlink > 1:
        raise UnsafePath(path, "it has a second name, a hard link", f"remove this one: rm {_quoted(path)}")
    _check_owner(path, found)
    if _others_write(found):
        raise _writable(path, found)


def _check_folder(path: Path, found: os.stat_result, *, sticky_is_safe: bool) -> None:
    # Volumes of a cluster come with any owner and mode, often 0777. Whoever mounts one decides who sees it, and what
    # lies in it is checked.
    if os.path.ismount(path):
        return
    _check_owner(path, found)
    if _others_write(found) and not (sticky_is_safe and found.st_mode & stat.S_ISVTX):
        raise _writable(path, found)


def _check_owner(path: Path, found: os.stat_result) -> None:
    user = os.geteuid()
    if found.st_uid not in (0, user):
        what = f"it belongs to user {found.st_uid}, and the server runs as user {user}"
        raise UnsafePath(path, what, f"chown -R {user} {_quoted(path)}")


def _others_write(found: os.stat_result) -> bool:
    # A group of ours is no other: Kubernetes makes a pod's volume writable for the pod's group (fsGroup).
    ours = found.st_gid in {os.getegid(), *os.getgroups()}
    return bool(found.st_mode & (stat.S_IWOTH if ours else stat.S_IWOTH | stat.S_IWGRP))


def _writable(path: Path, found: os.stat_result) -> UnsafePath:
    what = f"other users can change it (mode {stat.S_IMODE(found.st_mode):04o})"
    return UnsafePath(path, what, f"chmod go-w {_quoted(path)}")


def _link(path: Path) -> UnsafePath:
    target = path.resolve()
    return UnsafePath(path, f"it is a link to {target}", f"name its target instead, or remove it: rm {_quoted(path)}")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
