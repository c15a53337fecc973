"""All keys, in memory: those of the database, read again when they change, and those of a file that others keep."""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from server.access.callers import Caller
from server.access.keys import KEY, KeyRefused, Pepper, audit, from_record, time_text
from server.queue import Key, PepperDiffers, Queue
from server.redaction import redacted
from server.settings import documents
from server.settings.documents import Document, DocumentError

log = logging.getLogger(__name__)

ANSWER_SECONDS = 30.0  # longer than the database may take for a statement or a lock
SUFFIX = ".yaml"
FINDINGS_SHOWN = 5

T = TypeVar("T")
State = list[tuple[Path, int, int, int]]


@dataclass(frozen=True, slots=True)
class Held:
    """A key of the ring. ``in_file``: it is kept in a file, and the file alone can change it."""

    key: Key
    caller: Caller
    in_file: bool


# Stands for every id that there is not, so that a wrong id costs the same as a wrong secret. No digest is like it.
_NOBODY = Key(id="", owner="", tiers=(), digest="-" * 64, created_at=0.0)


class Keyring:
    """Recognizes callers by their keys, and asks nobody for that.

    ``file`` has hashed keys too: one YAML file, or a folder of them. If it is wrong, the last good keys of it stay, and
    ``problem`` says why. A key of the database goes before one of the file with the same id, so that it can be revoked.
    """

    def __init__(self, queue: Queue, pepper: Pepper, clock: Callable[[], float], file: Path | None = None) -> None:
        self.pepper = pepper
        self._queue, self._clock, self._file = queue, clock, file
        self._lock = threading.Lock()
        self._number = -1
        self._seen: State | None = None
        self._of_database: dict[str, Held] = {}
        self._of_file: dict[str, Held] = {}
        self._held: Mapping[str, Held] = {}
        self._wrong_file = self._wrong_pepper = ""

    def recognize(self, text: str) -> Caller:
        """Whose key this is. Raises ``KeyRefused``: ``key_unknown``, ``key_revoked`` or ``key_expired``.

        An unknown id, a wrong secret and a text that is no key at all cost the same work and get the same answer. The
        state of a key is told only to those who have it.
        """
        named = KEY.fullmatch(text)
        held = self._held.get(named[1] if named else "")
        key = held.key if held else _NOBODY
        right = hmac.compare_digest(self.pepper.digest(text), key.digest)
        if not right or held is None:
            raise KeyRefused("key_unknown", "this key is none of this service's")
        status = key.status(self._clock())
        if status == "revoked":
            raise KeyRefused("key_revoked", f"the key {key.id} was revoked; ask the operator for a new one")
        if status == "expired":
            raise KeyRefused("key_expired", f"the key {key.id} expired at {time_text(key.expires_at)}")
        return held.caller

    def held(self) -> list[Held]:
        """All keys, also those that are over."""
        return list(self._held.values())

    def named(self, key_id: str) -> Held | None:
        """The key with this id."""
        return self._held.get(key_id)

    @property
    def problem(self) -> str:
        """Why keys are not those that the database and the file hold now; empty when they are."""
        return "; ".join(filter(None, (self._wrong_pepper, self._wrong_file)))

    def refresh(self) -> None:
        """Take what has changed, in the file and in the database; the last good keys stay where that fails.

        Blocks. Raises what the queue raises, among it ``PepperDiffers``, and ``TimeoutError``.
        """
        with self._lock:
            self._read_file()
            self._read_database()

    def _read_database(self) -> None:
        if _answer(self._queue.keys_changed()) == self._number:
            return
        kept = _answer(self._queue.keys())
        if kept.pepper and kept.pepper != self.pepper.check:
            error = PepperDiffers()
            self._wrong_pepper = str(error)
            raise error
        self._of_database, self._wrong_pepper = _held(kept.keys, in_file=False), ""
        self._held = self._of_file | self._of_database
        self._number = kept.number

    def _read_file(self) -> None:
        if self._file is None:
            return
        state = _state(self._file)
        if state == self._seen:
            return
        first = self._seen is None
        self._seen = state
        try:
            found = _held(_read([path for path, *_ in state]), in_file=True)
        except DocumentError as error:
            # Everybody may read it, so it has no values: they may be owners, or keys where their digests belong.
            wrong = (f"{one.file}:{one.line}: {one.pointer} ({one.rule})" for one in error.findings[:FINDINGS_SHOWN])
            self._wrong_file = redacted("\n".join(wrong))
            log.error("a wrong file of keys is not used, the last good keys are kept: %s", redacted(str(error)))
            return
        self._wrong_file = ""
        if not self._file.exists():
            log.warning("there is no file of keys at %s: none of its keys is accepted", self._file)
        if not first:
            _tell(self._of_file, found)
        self._of_file = found
        self._held = self._of_file | self._of_database


def wrong_records(records: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong with these records of a file of keys; empty if nothing is."""
    document = Document({"keys": records}, "the key", {})
    return "; ".join(f"{one.pointer}: {one.message}" for one in documents.validate(document, "keys"))


def _held(keys: tuple[Key, ...], *, in_file: bool) -> dict[str, Held]:
    return {key.id: Held(key, Caller.with_key(key), in_file) for key in keys}


def _state(file: Path) -> State:
    """What differs when a file was edited, replaced, added or removed."""
    found: State = []
    for path in sorted(file.glob(f"*{SUFFIX}")) if file.is_dir() else [file]:
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        except OSError:
            found.append((path, 0, 0, 0))
        else:
            # The inode, too: a changed Secret is another file behind the same symbolic link.
            found.append((path, stat.st_ctime_ns, stat.st_ino, stat.st_size))
    return found


def _read(files: list[Path]) -> tuple[Key, ...]:
    """The keys of these files. Raises ``DocumentError``."""
    keys: dict[str, Key] = {}
    for path in files:
        document = documents.read(path)
        if wrong := documents.validate(document, "keys"):
            raise DocumentError(wrong)
        for index, found in enumerate(document.value["keys"]):
            key = _key(document, index)
            if key.id in keys:
                at = documents.pointer("keys", index, "id")
                raise DocumentError([document.finding(at, "unique", f"the id {found['id']} is there twice")])
            keys[key.id] = key
    return tuple(keys.values())


def _key(document: Document, index: int) -> Key:
    try:
        return from_record(document.value["keys"][index])
    except ValueError as error:
        at = documents.pointer("keys", index, "expires")
        raise DocumentError([document.finding(at, "time", str(error))]) from error


def _tell(before: Mapping[str, Held], now: Mapping[str, Held]) -> None:
    for key_id in before.keys() | now.keys():
        old, new = before.get(key_id), now.get(key_id)
        what = "removed" if new is None else "added" if old is None else "changed"
        one = new or old
        if one is not None and old != new:
            audit(what, one.key, "its file")


def _answer(future: Future[T]) -> T:
    try:
        return future.result(ANSWER_SECONDS)
    except TimeoutError:
        raise TimeoutError(f"the queue did not answer within {ANSWER_SECONDS:g} s") from None
