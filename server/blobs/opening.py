"""Opens the blob store that a URL names."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from server.blobs.base import Blobs, BlobsUnusable
from server.blobs.directory import DirectoryBlobs
from server.blobs.files import Files
from server.blobs.files_directory import DirectoryFiles
from server.disk import Disk
from server.redaction import redacted, shown

SCHEMES = "file:///path, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or a plain path"

# A URL consists of names only: one with a password, a signature or an option does not match.
_NAME = r"(?!\.\.?(?:/|$))[A-Za-z0-9_.=-]+"
_BUCKET = re.compile(rf"((s3a?|gs|az|azure|adl)://{_NAME}|abfss?://{_NAME}(@{_NAME})?)(/{_NAME})*/?")


def open_blobs(url: str, disk: Disk | None = None) -> Blobs:
    """Open the store at ``url`` and try it out. Raises ``BlobsUnusable`` when blobs cannot be stored there.

    A path or ``file://`` is a ``DirectoryBlobs``, not obstore's local store, which does not fsync: a blob that it has
    acknowledged could be lost in a power cut. ``s3://``, ``gs://`` and ``az://`` (and obstore's other names for these:
    ``s3a``, ``azure``, ``adl``, ``abfs``, ``abfss``) are objects below a prefix, with credentials from the environment.
    ``disk`` is the one of a folder among them.
    """
    if (folder := folder_of(url)) is not None:
        return _directory(folder, disk)
    if _BUCKET.fullmatch(url):
        return _objects(url)
    raise BlobsUnusable(
        f"the place of the blobs, {shown(url)}, is not one of {SCHEMES}; "
        "credentials and options go into the environment, not into the URL"
    )


def open_files(url: str, disk: Disk | None = None) -> Files:
    """Open the store of files at ``url``, which is one of those that ``open_blobs`` takes. Raises ``BlobsUnusable``."""
    if (folder := folder_of(url)) is None:
        from server.blobs.files_objects import ObjectFiles

        return ObjectFiles.connect(url)
    try:
        return DirectoryFiles(folder, disk)
    except OSError as error:
        raise BlobsUnusable(f"cannot keep models in {redacted(str(folder))}: {redacted(str(error.strerror))}") from None


def folder_of(url: str) -> Path | None:
    """The folder that a plain path or a ``file://`` URL names; None for any other URL."""
    scheme, separator, rest = url.partition("://")
    if not separator and url and not re.match(r"[a-z0-9]+:", url):
        return Path(url)
    return Path(unquote(rest)) if scheme == "file" and rest.startswith("/") else None


def _directory(path: Path, disk: Disk | None) -> Blobs:
    try:
        return DirectoryBlobs(path, disk)
    except OSError as error:
        raise BlobsUnusable(f"cannot keep blobs in {redacted(str(path))}: {redacted(str(error.strerror))}") from None


def _objects(url: str) -> Blobs:
    try:
        from server.blobs.objects import ObjectBlobs
    except ImportError as error:
        raise BlobsUnusable(f"blobs in {url} need obstore: pip install tierserve[objects] ({error})") from error
    blobs = ObjectBlobs.connect(url)
    blobs.check()
    return blobs
