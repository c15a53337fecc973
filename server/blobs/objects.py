"""Blobs as objects below a prefix of one bucket: S3, Google Cloud Storage or Azure, each through obstore."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import from_url

from server.blobs.base import BlobError, BlobMissing, Blobs, BlobsUnusable, checked, is_key, is_whole, pack
from server.points import Point, reached

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStoreMethods, RetryConfig

# A call ends within 9 s: a last retry begins up to RETRY + BACKOFF after the first request, and takes up to REQUEST.
CONNECT, REQUEST = timedelta(seconds=2), timedelta(seconds=5)
RETRY, BACKOFF = timedelta(seconds=3), timedelta(seconds=1)
PAGE = 1000  # the most that S3 deletes, or lists, at a time
DELETERS, READERS = 10, 16

_ENDPOINTS = (
    *("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
    *("GOOGLE_BASE_URL", "AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"),
)
_ERRORS = (BaseError, OSError, ValueError)
_CREDENTIALS = re.compile(r"https?://(169\.254\.|metadata\.|sts\.|oauth2\.|login\.microsoftonline\.)")
_SIGNS = {
    "TimedOut": "no answer in time",
    "ConnectionRefused": "connection refused",
    "dns error": "no such host",
    "BareRedirect": "the bucket is in another region",
    "kind: Connect": "no connection",
    "HttpError": "the connection broke off",
}


class ObjectBlobs(Blobs):
    """Blobs as objects of one store.

    ``put`` overwrites rather than creates: a key is random and used once, so that only the same bytes can meet it
    again; and only a request that may be repeated is tried anew when its connection breaks, without taking the first
    try's success for somebody else's object. It also asks nothing that some S3-like stores lack.
    """

    def __init__(self, store: ObjectStoreMethods, name: str, clock: Callable[[], float] = time.time) -> None:
        self._store, self._name, self._clock = store, name, clock
        self._readers = ThreadPoolExecutor(READERS, "reader")

    @classmethod
    def connect(cls, url: str, clock: Callable[[], float] = time.time) -> ObjectBlobs:
        """The store of a URL without secrets; its settings are the environment's. Raises ``BlobsUnusable``."""
        options: ClientConfig = {
            "connect_timeout": CONNECT,
            "timeout": REQUEST,
            "allow_http": any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS),
        }
        retries: RetryConfig = {
            "max_retries": 10,
            "retry_timeout": RETRY,
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": BACKOFF, "base": 2},
        }
        try:
            store = from_url(url, client_options=options, retry_config=retries)
        except _ERRORS as error:
            raise BlobsUnusable(f"cannot use {url}: {_reason(error)}") from None
        return cls(store, url, clock)

    def check(self) -> None:
        """Write, read, list, delete and miss a probe. Raises ``BlobsUnusable``, which names the first that failed.

        S3 does not tell who may not list that an object is missing. A probe left behind is an orphan like any other.
        """
        key = f"probe{secrets.token_hex(16)}"
        try:
            with _told("write"):
                self._store.put(key, pack([[b"probe"]]), use_multipart=False)
            self.get(key)
            with _told("list"):
                next(iter(self._store.list(chunk_size=1)), None)
            with _told("delete"):
                self._store.delete([key])
            with suppress(BlobMissing):
                self.get(key)
        except BlobError as error:
            raise BlobsUnusable(f"cannot use {self._name}: {error}") from None

    def put(self, key: str, pictures: Sequence[Sequence[bytes]]) -> int:
        """Keep pictures as one object: it is there in whole, and durable, once the store has acknowledged it."""
        path, chunks = checked(key), pack(pictures)
        reached(Point.BLOB_OPENED)
        with _told("keep the picture"):
            self._store.put(path, chunks, use_multipart=False)
        reached(Point.BLOB_KEPT)
        return sum(map(len, chunks))

    def get(self, key: str) -> bytes:
        """The object's bytes; the store's word that there is no such key is believed, any other 404 is an error."""
        try:
            blob = bytes(self._store.get(checked(key)).bytes())
        except _ERRORS as error:
            if _code(error) in ("NoSuchKey", "BlobNotFound"):
                raise BlobMissing(f"no blob {key}") from None
            raise BlobError(f"cannot read blob {key}: {_reason(error)}") from None
        if not is_whole(blob):
            raise BlobError(f"cannot read blob {key}: {len(blob)} bytes are not all of it")
        return blob

    def get_each(self, keys: Sequence[str]) -> list[bytes | BlobMissing]:
        """Several objects, some at a time: each costs a round trip."""
        return list(self._readers.map(self._found, keys))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, a page at a time. Raises ``BlobError``; what it leaves can be deleted again."""
        paths = map(checked, keys)
        while page := list(islice(paths, PAGE)):
            with _told("delete blobs"):
                self._delete(page)
            reached(Point.BLOB_DELETED)

    def older_than(self, seconds: float) -> Iterator[str]:
        """The keys of objects that the store's clock saw written at least ``seconds`` ago. Raises ``BlobError``.

        Now is by our own clock, so let ``seconds`` be far more than the two differ: S3 refuses whoever is 15 minutes
        off.
        """
        limit = self._clock() - seconds
        with _told("list blobs"):
            for page in self._store.list(chunk_size=PAGE):
                for found in page:
                    if is_key(found["path"]) and found["last_modified"].timestamp() <= limit:
                        yield found["path"]

    def close(self) -> None:
        """Let the readers go; idle connections close themselves."""
        self._readers.shutdown()

    def _delete(self, page: list[str]) -> None:
        try:
            self._store.delete(page)
        except FileNotFoundError as error:
            if _code(error) in ("NoSuchBucket", "ContainerNotFound"):
                raise
            # Google and Azure end the whole call at the first that is gone.
            with ThreadPoolExecutor(DELETERS) as pool:
                for _ in pool.map(self._delete_one, page):
                    pass

    def _delete_one(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._store.delete(path)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Raise the client's errors as ours, without their text: it holds URLs, and may hold what signs them."""
    try:
        yield
    except _ERRORS as error:
        raise BlobError(f"cannot {what}: {_reason(error)}") from None


def _code(error: Exception) -> str:
    """The store's own word for what went wrong."""
    found = re.search(r'<Code>(\w+)</Code>|code: "([A-Z]\w+)"', str(error))
    return (found[1] or found[2]) if found else ""


def _reason(error: Exception) -> str:
    text, code = str(error), _code(error)
    status = re.search(r"status code: (\d{3})", text)
    setting = re.search(r"source: (Missing\w+)|InvalidCertificate\(\s*(\w+)", text)
    if status:
        said = f"{code} ({status[1]})" if code else f"it answered {status[1]}"
    elif code:
        said = code
    elif setting:
        said = setting[1] or f"its certificate is not trusted ({setting[2]})"
    else:
        said = next((words for sign, words in _SIGNS.items() if sign in text), "no proper answer")
    return f"no credentials: {said}" if _CREDENTIALS.search(text) else said
