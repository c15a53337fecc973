"""Reads the texts of settings from files, and says what is wrong with a text and where."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake in a document. ``line`` is 0 where there is none; an empty ``pointer`` means the whole document."""

    file: str
    line: int
    pointer: str
    rule: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(filter(None, (where, self.pointer, f"{self.message} ({self.rule})")))


class DocumentError(Exception):
    """A document cannot be used; ``findings`` lists its mistakes."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = tuple(findings)


def shown(path: Path) -> str:
    """Return ``path`` relative to the working directory, if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """Return the text of the regular file ``path``, of at most ``limit`` bytes. Raises ``DocumentError``."""
    file = shown(path)
    try:
        # To open a pipe would wait for its writer.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise unusable(file, 0, "file", "is not a regular file")
            data = stream.read(limit + 1)
    except OSError as error:
        raise unusable(file, 0, "file", error.strerror or str(error)) from error
    if len(data) > limit:
        raise unusable(file, 0, "size", f"is larger than {limit} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        message = "is UTF-16 text: save it as UTF-8" if utf_16 else "is not UTF-8 text"
        raise unusable(file, 0, "yaml", message) from error


def unusable(file: str, line: int, rule: str, message: str) -> DocumentError:
    """Return what is wrong with the whole text ``file``, or with one line of it."""
    return DocumentError([Finding(file=file, line=line, pointer="", rule=rule, message=message)])
