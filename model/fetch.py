"""Brings a worker its model from the server's internal port, by digest.

The server has the record at ``/work/models/NAME@VERSION``, and each file at ``/work/model-files/SHA256``; both want the
Job's token. Only the file of one variant is fetched, in a thread of its own: the libraries are imported meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import quote, urlsplit

from model.description import Model, ModelError, digest_of, parse_model

TRY_SECONDS = 60.0  # no attempt begins later: the tier's startSeconds end a worker that has no model for longer
ANSWER_SECONDS = 10.0  # the longest silence of a server that is there
RETRY_FIRST, RETRY_MOST = 0.05, 1.0
WRONG_MOST = 3  # so often what comes may differ from its checksum
RECORD_BYTES = 16 * 1024 * 1024
READ_BYTES = 4 * 1024 * 1024  # each read may wait for the interpreter while a library is imported; so few, large ones
ENDING = (signal.SIGTERM, signal.SIGINT)


class ServerAway(Exception):
    """The server has not given the model for ``TRY_SECONDS``; the message says what came last."""


class Interrupted(Exception):
    """SIGTERM or SIGINT came before the model had come."""

    def __init__(self) -> None:
        super().__init__("told to end before the model had come")


class _Again(Exception):
    """An attempt failed, and another may succeed."""


class _Wrong(_Again):
    """What came is not what the digest names."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The variant of a model. ``reference`` is NAME@VERSION, ``digest`` the whole digest of the model."""

    reference: str
    digest: str
    runtime: str
    variant: str


class Fetch:
    """A model on its way, while the block of ``with`` lasts; at its end the files are deleted.

    ``server`` is the URL of its internal port, ``token`` returns the Job's token or raises ``OSError``. SIGTERM and
    SIGINT must be blocked.
    """

    def __init__(
        self, server: str, token: Callable[[], str], wanted: Wanted, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = urlsplit(server).netloc
        self._token, self._wanted, self._clock = token, wanted, clock
        self._thread = threading.Thread(target=self._run, name="fetch", daemon=True)
        self._result: Model | Exception | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Fetch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def model(self) -> Model:
        """Wait for the model. Raises ``ModelError``, ``ServerAway`` and ``Interrupted``."""
        self._thread.join()
        if isinstance(self._result, Model):
            return self._result
        assert self._result is not None
        raise self._result

    def _run(self) -> None:
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="tierserve-model-"))
            self._result = self._try_until_there(self._folder)
        except OSError as error:
            place = error.filename or tempfile.gettempdir()
            self._result = ModelError(f"The model {self._wanted.reference} cannot be kept in {place}: {error.strerror}")
        except Exception as error:  # noqa: BLE001 (``model`` raises it)
            self._result = error

    def _try_until_there(self, folder: Path) -> Model:
        began, pause, wrong = self._clock(), RETRY_FIRST, 0
        while True:
            connection = HTTPConnection(self._address, timeout=ANSWER_SECONDS)
            try:
                return self._fetch(connection, folder)
            except _Again as error:
                wrong += isinstance(error, _Wrong)
                if wrong >= WRONG_MOST:
                    raise ModelError(f"{error}, {wrong} times") from error
                if self._clock() + pause - began >= TRY_SECONDS:
                    raise ServerAway(f"the server has not given {self._wanted.reference}: {error}") from error
            finally:
                connection.close()
            if signal.sigtimedwait(ENDING, pause):
                raise Interrupted
            pause = min(2 * pause, RETRY_MOST)

    def _fetch(self, connection: HTTPConnection, folder: Path) -> Model:
        model = self._checked(self._record(connection), folder)
        variant = model.variant(self._wanted.runtime, self._wanted.variant)
        file = folder / variant.file
        if file.parent != folder or variant.file == "..":
            raise ModelError(
                f"The record of {self._wanted.reference} names the file {variant.file!r}, in another folder"
            )
        answer = self._get(connection, f"/work/model-files/{variant.sha256}")
        if answer.length not in (None, variant.bytes):
            raise _Wrong(f"a file of {answer.length} bytes came for {variant.file}, which has {variant.bytes}")
        came, digest = _keep(answer, file, variant.bytes)
        if came < variant.bytes:
            raise _Again(f"{variant.file} broke off after {came} of {variant.bytes} bytes")
        if digest != variant.sha256:
            raise _Wrong(f"what came for {variant.file} does not match its checksum")
        return model

    def _record(self, connection: HTTPConnection) -> bytes:
        answer = self._get(connection, f"/work/models/{quote(self._wanted.reference, safe='@')}")
        try:
            record = answer.read(RECORD_BYTES + 1)
        except (OSError, HTTPException) as error:
            raise _Again(f"the record broke off: {error}") from error
        if answer.length:
            raise _Again(f"the record broke off after {len(record)} bytes")
        return record

    def _checked(self, record: bytes, folder: Path) -> Model:
        wanted = self._wanted
        try:
            model = parse_model(record, folder)
            digest = digest_of(model.architecture, model.arguments, model.labels, model.preprocessing, model.variants)
        except (ValueError, TypeError) as error:
            raise _Wrong(f"the record of {wanted.reference} cannot be read ({error})") from error
        if (model.reference, digest) != (wanted.reference, wanted.digest):
            came = f"{model.reference} with the digest {digest}"
            raise _Wrong(f"the record that came for {wanted.reference} is of {came}, not {wanted.digest}")
        return model

    def _get(self, connection: HTTPConnection, path: str) -> HTTPResponse:
        """Ask for a path. Raises ``_Again``, or ``ModelError`` when every attempt would be answered alike."""
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self._token()}"})
            answer = connection.getresponse()
            if answer.status == 200:
                return answer
            detail = _detail(answer.read(RECORD_BYTES))
        except (OSError, HTTPException) as error:
            raise _Again(f"no answer from {self._address}: {error}") from error
        said = f"{self._address} answered {answer.status}: {detail}"
        if answer.status >= 500 or answer.status == 429:  # as from a server that is being replaced
            raise _Again(said)
        raise ModelError(f"The model {self._wanted.reference} cannot be fetched: {said}")


def _keep(answer: HTTPResponse, file: Path, size: int) -> tuple[int, str]:
    """Write what comes, at most ``size`` bytes; return how many came, and their SHA-256, hexadecimal.

    Raises ``OSError`` when the file cannot be written, and ``Interrupted``.
    """
    came, digest, buffer = 0, hashlib.sha256(), memoryview(bytearray(min(size, READ_BYTES)))
    with file.open("wb") as sink:
        while came < size:
            if signal.sigpending() & set(ENDING):
                raise Interrupted
            try:
                count = answer.readinto(buffer[: size - came])
            except (OSError, HTTPException):
                break
            if not count:
                break
            digest.update(buffer[:count])
            came += sink.write(buffer[:count])
    return came, digest.hexdigest()


def _detail(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["detail"])
    except (ValueError, TypeError, KeyError):
        return answer.decode(errors="replace")[:200]
