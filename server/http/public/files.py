"""Files that are part of the server and that browsers show: they are read once, and answered with their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import ClassVar

from server.http.callers import Anyone
from server.http.public.base import PublicHandler
from server.problems import Problem

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# What a document and everything in it may do: load from this server alone, run no script or style that stands in the
# document itself, send no form, and be shown in no frame. A picture may also be one that the document has in memory.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class File:
    """A file in memory, with its media type and its strong entity tag."""

    content: bytes
    media_type: str
    etag: str


def read(paths: Iterable[Path]) -> Mapping[str, File]:
    """The files by their names. Raises ``OSError``, and ``KeyError`` for a type that is not served."""
    found = {}
    for path in sorted(paths):
        content = path.read_bytes()
        found[path.name] = File(content, TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return found


class FileHandler(PublicHandler):
    """Answers with one of ``files``. A browser may keep it, and asks each time whether it is still the same."""

    callers = Anyone()
    files: ClassVar[Mapping[str, File]]
    policy: ClassVar[str] = POLICY
    file: File

    def set_default_headers(self) -> None:
        """Errors have them too."""
        super().set_default_headers()
        self.set_header("Content-Security-Policy", self.policy)
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")

    def show(self, name: str) -> None:
        """Answer with the file of this name. Raises ``Problem`` with 404."""
        if name not in self.files:
            raise Problem(HTTPStatus.NOT_FOUND, "no_such_route", f"there is nothing at {self.request.path[:80]}")
        self.file = self.files[name]
        self.set_header("Content-Type", self.file.media_type)
        self.set_header("Cache-Control", "no-cache")
        self.finish(self.file.content)

    def compute_etag(self) -> str | None:
        """Called by Tornado, which answers 304 to a browser that has the file already."""
        return self.file.etag if hasattr(self, "file") else None
