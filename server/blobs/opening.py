"""Opens the blob store that a URL names."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from server.blobs.base import Blobs, BlobsUnusable
from server.blobs.directory import DirectoryBlobs
from server.redaction import redacted, shown

SCHEMES = "file:///path, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or a plain path"

# A URL consists of names only: one with a password, a signature or an option does not match.
_NAME = r"(?!\.\.?(?:/|$))[A-Za-z0-9_.=-]+"
_BUCKET = re.compile(rf"((s3a?|gs|az|azure|adl)://{_NAME}|abfss?://{_NAME}(@{_NAME})?)(/{_NAME})*/?")


def open_blobs(url: str, clock: Callable[[], float] = time.time) -> Blobs:
    """Open the store at ``url`` and try it out. Raises ``BlobsUnusable`` when blobs cannot be stored there.

    A path or ``file://`` is a ``DirectoryBlobs``, not obstore's local store, which does not fsync: a blob that it has
    acknowledged could be lost in a power cut. ``s3://``, ``gs://`` and ``az://`` (and obstore's other names for these:
    ``s3a``, ``azure``, ``adl``, ``abfs``, ``abfss``) are objects below a prefix, with credentials from the environment.
    ``clock`` returns seconds since the epoch.
    """
    scheme, separator, rest = url.partition("://")
    if not separator and url and not re.match(r"[a-z0-9]+:", url):
        return _directory(Path(url), clock)
    if scheme == "file" and rest.startswith("/"):
        return _directory(Path(unquote(rest)), clock)
    if _BUCKET.fullmatch(url):
        return _objects(url, clock)
    raise BlobsUnusable(
        f"the place of the blobs, {shown(url)}, is not one of {SCHEMES}; "
        "credentials and options go into the environment, not into the URL"
    )


def _directory(path: Path, clock: Callable[[], float]) -> Blobs:
    try:
        return DirectoryBlobs(path, clock)
    except OSError as error:
        raise BlobsUnusable(f"cannot keep blobs in {redacted(str(path))}: {redacted(str(error.strerror))}") from None


def _objects(url: str, clock: Callable[[], float]) -> Blobs:
    try:
        from server.blobs.objects import ObjectBlobs
    except ImportError as error:
        raise BlobsUnusable(f"blobs in {url} need obstore: pip install tierserve[objects] ({error})") from error
    blobs = ObjectBlobs.connect(url, clock)
    blobs.check()
    return blobs
