"""What the public port offers: ``/openapi.json`` for programs, and ``/docs``, a viewer of it, for people."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from server.http.callers import Anyone
from server.http.public.base import PublicHandler
from server.http.public.files import POLICY, FileHandler, read
from server.openapi.document import document

FOLDER = Path(__file__).resolve().parents[2] / "viewer"
# The viewer is a program of others, which writes styles into its document. Its scripts are bound as everywhere.
VIEWER_POLICY = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
_MAKING = threading.Lock()


class InterfaceHandler(PublicHandler):
    """``GET /openapi.json``."""

    callers = Anyone()
    etag: str | None = None

    async def get(self) -> None:
        """The interface of this version, with the tiers that there are now."""
        content, self.etag = await asyncio.to_thread(_written, tuple(self.services.settings.tiers))
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-cache")
        self.finish(content)

    def compute_etag(self) -> str | None:
        """Called by Tornado, which answers 304 to a client that has the document already."""
        return self.etag


class DocsHandler(FileHandler):
    """``GET /docs``, and ``GET /docs/{file}``: what the viewer is made of."""

    files = read(path for path in FOLDER.iterdir() if path.suffix in (".css", ".html", ".js"))
    policy = VIEWER_POLICY

    def get(self, name: str = "docs.html") -> None:
        """The page, or a file of it. Raises ``Problem`` with 404."""
        self.show(name)


def _written(tiers: tuple[str, ...]) -> tuple[bytes, str]:
    """The document as JSON, and its entity tag. Takes some tenths of a second when the tiers are others than last."""
    with _MAKING:
        return _made(tiers)


@lru_cache(maxsize=1)
def _made(tiers: tuple[str, ...]) -> tuple[bytes, str]:
    content = json.dumps(document(version("tierserve"), tiers), ensure_ascii=False, separators=(",", ":")).encode()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'
