"""The page: ``/`` asks with pictures, ``/watch`` shows the tiers, and ``/page/`` has what the two are made of."""

from __future__ import annotations

from pathlib import Path

from server.http.public.files import FileHandler, read
from server.shipped import PICTURE

FOLDER = Path(__file__).resolve().parents[2] / "page"
DOCUMENTS = {"/": "index.html", "/watch": "watch.html"}


class DocumentHandler(FileHandler):
    """``GET /`` and ``GET /watch``."""

    files = read(FOLDER.glob("*.html"))

    def get(self) -> None:
        """The document of the route."""
        self.show(DOCUMENTS[self.route])


class PageFileHandler(FileHandler):
    """``GET /page/{file}``."""

    files = read([*(path for path in FOLDER.iterdir() if path.suffix != ".html"), PICTURE])

    def get(self, name: str) -> None:
        """A file of that folder, or the picture with which people try the service. Raises ``Problem`` with 404."""
        self.show(name)
