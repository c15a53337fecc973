"""Stores blobs as objects below a prefix of one bucket, in S3, Google Cloud Storage or Azure, through obstore."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import from_url

from server.blobs.base import (
    PIECE_BYTES,
    BlobError,
    BlobMissing,
    Blobs,
    BlobsFull,
    BlobsUnusable,
    Piece,
    checked,
    is_key,
    is_whole,
    pack,
)
from server.points import Point, reached

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStoreMethods, RetryConfig

# A call ends within 9 s: the last retry begins at most RETRY + BACKOFF after the first request and takes REQUEST.
CONNECT, REQUEST = timedelta(seconds=2), timedelta(seconds=5)
RETRY, BACKOFF = timedelta(seconds=3), timedelta(seconds=1)
PAGE = 1000  # the most objects that S3 deletes or lists in one request
DELETERS, READERS = 10, 16

_ENDPOINTS = (
    *("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
    *("GOOGLE_BASE_URL", "AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"),
)
_ERRORS = (BaseError, OSError, ValueError)
# An error about one of these hosts came from fetching credentials, not from the store.
_CREDENTIALS = re.compile(r"https?://(169\.254\.|metadata\.|sts\.|oauth2\.|login\.microsoftonline\.)")
# What stores say when a bucket, or they themselves, can take no more: S3 and Ceph QuotaExceeded, MinIO
# XMinioAdminBucketQuotaExceeded and XMinioStorageFull, Google quotaExceeded, Azure AccountLimitExceeded; 507 by itself.
_FULL = re.compile(r"(?i)quota\w*exceeded|storagefull|insufficientstorage|accountlimitexceeded|\b507\b")
# obstore's errors carry their cause only as text. What to say for a part of that text; the first that is found counts.
_SIGNS = {
    "TimedOut": "no answer in time",
    "ConnectionRefused": "connection refused",
    "dns error": "no such host",
    "BareRedirect": "the bucket is in another region",
    "kind: Connect": "no connection",
    "HttpError": "the connection broke off",
}


class ObjectBlobs(Blobs):
    """A store of blobs as objects.

    ``put`` overwrites an object of the same key rather than refusing to. Keys are random and used once, so only a retry
    of the same ``put`` can meet its own object; a conditional write could not be retried after a broken connection
    without taking that object for somebody else's, and some stores that speak S3 do not have it.
    """

    def __init__(self, store: ObjectStoreMethods, name: str) -> None:
        self._store, self._name = store, name
        self._readers = ThreadPoolExecutor(READERS, "reader")

    @classmethod
    def connect(cls, url: str) -> ObjectBlobs:
        """Open the store at a URL without secrets, with settings from the environment. Raises ``BlobsUnusable``."""
        store = connected(url, REQUEST)
        return cls(store, url)

    def check(self) -> None:
        """Write, read, list and delete a small object, then read it in vain. Raises ``BlobsUnusable`` at a failed step.

        The last step is there because S3 answers 403, not 404, for a missing object to those who may not list the
        bucket. An object that stays behind is deleted later, as any orphan is.
        """
        key = f"probe{secrets.token_hex(16)}"
        try:
            with as_blob_error("write"):
                self._store.put(key, pack([[b"probe"]]), use_multipart=False)
            self.get(key)
            with as_blob_error("list"):
                next(iter(self._store.list(chunk_size=1)), None)
            with as_blob_error("delete"):
                self._store.delete([key])
            with suppress(BlobMissing):
                self.get(key)
        except BlobError as error:
            raise BlobsUnusable(f"cannot use {self._name}: {error}") from None

    def put(self, key: str, pictures: Sequence[Sequence[Piece]]) -> int:
        """Store pictures as one object, which is complete and durable once the store has acknowledged it."""
        path, chunks = checked(key), pack(pictures)
        reached(Point.BLOB_OPENED)
        with as_blob_error("keep the picture"):
            self._store.put(path, chunks, use_multipart=False)
        reached(Point.BLOB_KEPT)
        return sum(map(len, chunks))

    def get(self, key: str) -> bytes:
        """Return the bytes of an object; it is missing only if the store says so by its code, not by any 404."""
        with as_missing(key):
            blob = bytes(self._store.get(checked(key)).bytes())
        if not is_whole(blob):
            raise BlobError(f"cannot read blob {key}: {len(blob)} bytes are not all of it")
        return blob

    def pieces(self, key: str) -> Generator[bytes, None, None]:
        """Iterate over the bytes of an object while the store sends them."""
        with as_missing(key):
            for piece in self._store.get(checked(key)).stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)

    def get_each(self, keys: Sequence[str]) -> list[bytes | BlobMissing]:
        """Return the bytes of several objects, fetched in parallel, as each costs a round trip."""
        return list(self._readers.map(self._found, keys))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, a page at a time. Raises ``BlobError``, after which the call can be repeated."""
        paths = map(checked, keys)
        while page := list(islice(paths, PAGE)):
            with as_blob_error("delete blobs"):
                self._delete(page)
            reached(Point.BLOB_DELETED)

    def older_than(self, seconds: float) -> Iterator[str]:
        """Iterate over the keys of objects written at least ``seconds`` ago. Raises ``BlobError``."""
        limit: float | None = None
        with as_blob_error("list blobs"):
            for page in self._store.list(chunk_size=PAGE):
                for found in page:
                    if is_key(found["path"]):
                        limit = (
                            time_of(self._store) - seconds if limit is None else limit
                        )  # not asked for an empty bucket
                        if found["last_modified"].timestamp() <= limit:
                            yield found["path"]

    def close(self) -> None:
        """End the threads that read; idle connections close by themselves."""
        self._readers.shutdown()

    def _delete(self, page: list[str]) -> None:
        try:
            self._store.delete(page)
        except FileNotFoundError as error:
            if _code(error) in ("NoSuchBucket", "ContainerNotFound"):
                raise
            # With Google and Azure, one object that does not exist makes the whole call fail.
            with ThreadPoolExecutor(DELETERS) as pool:
                for _ in pool.map(self._delete_one, page):
                    pass

    def _delete_one(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._store.delete(path)


def connected(url: str, request: timedelta) -> ObjectStoreMethods:
    """The store at a URL without secrets, with settings from the environment. Raises ``BlobsUnusable``.

    ``request`` is the most that one request may take, with its body.
    """
    options: ClientConfig = {
        "connect_timeout": CONNECT,
        "timeout": request,
        # obstore refuses http:// unless it is told otherwise; an endpoint that is given as http:// is meant so.
        "allow_http": any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS),
    }
    retries: RetryConfig = {
        "max_retries": 10,
        "retry_timeout": RETRY,
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": BACKOFF, "base": 2},
    }
    try:
        return from_url(url, client_options=options, retry_config=retries)
    except _ERRORS as error:
        raise BlobsUnusable(f"cannot use {url}: {_reason(error)}") from None


def time_of(store: ObjectStoreMethods) -> float:
    """What time it is for the store: how it dates an object that is written now. Raises obstore's errors."""
    key = f"probe{secrets.token_hex(16)}"
    store.put(key, pack([[b"probe"]]), use_multipart=False)
    now = store.get(key).meta["last_modified"].timestamp()
    store.delete([key])
    return now


@contextmanager
def as_blob_error(what: str) -> Iterator[None]:
    """Raise obstore's errors as ``BlobError``, without their text, which contains URLs and may contain signatures."""
    try:
        yield
    except _ERRORS as error:
        raise _failure(f"cannot {what}: {_reason(error)}", error) from None


def _failure(message: str, error: Exception) -> BlobError:
    full = _FULL.search(f"{_code(error)} {_status(error)}")
    return BlobsFull(message, "bucket_full") if full else BlobError(message)


def _status(error: Exception) -> str:
    found = re.search(r"status code: (\d{3})", str(error))
    return found[1] if found else ""


@contextmanager
def as_missing(key: str) -> Iterator[None]:
    """Raise obstore's errors as ``BlobMissing`` if the store says that there is no such object, else ``BlobError``."""
    try:
        yield
    except _ERRORS as error:
        if _code(error) in ("NoSuchKey", "BlobNotFound"):
            raise BlobMissing(f"no blob {key}") from None
        raise BlobError(f"cannot read blob {key}: {_reason(error)}") from None


def _code(error: Exception) -> str:
    """Return the store's error code, such as ``NoSuchKey``, or an empty string."""
    found = re.search(r'<Code>(\w+)</Code>|code: "([A-Z]\w+)"', str(error))
    return (found[1] or found[2]) if found else ""


def _reason(error: Exception) -> str:
    text, code = str(error), _code(error)
    status = _status(error)
    setting = re.search(r"source: (Missing\w+)|InvalidCertificate\(\s*(\w+)", text)
    if status:
        said = f"{code} ({status})" if code else f"it answered {status}"
    elif code:
        said = code
    elif setting:
        said = setting[1] or f"its certificate is not trusted ({setting[2]})"
    else:
        said = next((words for sign, words in _SIGNS.items() if sign in text), "no proper answer")
    return f"no credentials: {said}" if _CREDENTIALS.search(text) else said
