"""The last good settings as a file, so that a restart does not depend on files that have become wrong."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

from server.settings.sources import Files, Sources, dumped, restored

VERSION = 1
MOST_BYTES = 64 * 1024 * 1024


class Kept:
    """The texts that were in force last, in the file ``path``. They count only for the same ``files``.

    Flags are not kept: those of the running command go over the kept texts, as over any others.
    """

    def __init__(self, path: Path, files: Files) -> None:
        self._path, self._files = path, files

    def read(self) -> Sources | None:
        """Return the kept texts with the present flags; None when there are none that can be used."""
        try:
            data = json.loads(_read(self._path))
            if (data["version"], data["files"]) != (VERSION, self._named()):
                return None
            return replace(restored(data["sources"]), overrides=self._files.overrides, typed=self._files.typed)
        except (OSError, LookupError, TypeError, ValueError, RecursionError):
            return None

    def write(self, sources: Sources) -> None:
        """Keep these texts in place of earlier ones, or fail and leave the earlier ones. Raises ``OSError``."""
        texts = json.loads(dumped(replace(sources, overrides=(), typed=())))
        data = json.dumps({"version": VERSION, "files": self._named(), "sources": texts}).encode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f"{self._path.name}.new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _named(self) -> list[Any]:
        attached = map(Path, self._files.attached)
        return [str(path.absolute()) for path in (*self._files.layers, *attached, self._files.templates)]


def _read(path: Path) -> bytes:
    """Return what our own file contains. Raises ``OSError`` for any other one."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
        found = os.fstat(stream.fileno())
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & stat.S_IWOTH
        if not ours or found.st_size > MOST_BYTES:
            raise OSError(f"{path} is not a file of this server")
        return stream.read(MOST_BYTES)
