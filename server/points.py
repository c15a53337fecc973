"""Named moments around every step that makes work durable, so that tests can kill the process at each of them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Point(StrEnum):
    """The moment just after the step that it is named after, before anything else happens."""

    BODY_READ = "body.read"
    LOBBY_ENTERED = "lobby.entered"
    LOBBY_LEASED = "lobby.leased"
    LOBBY_KEEPING = "lobby.keeping"
    LOBBY_KEPT = "lobby.kept"
    LOBBY_FINISHED = "lobby.finished"
    LOBBY_SETTLED = "lobby.settled"
    BLOB_OPENED = "blob.opened"
    BLOB_WRITTEN = "blob.written"
    BLOB_SYNCED = "blob.synced"
    BLOB_KEPT = "blob.kept"
    ROWS_BEGUN = "rows.begun"
    ROWS_WRITTEN = "rows.written"
    ROWS_COMMITTED = "rows.committed"
    ROWS_TOLD = "rows.told"
    ANSWER_READY = "answer.ready"
    LEASE_FRAMED = "lease.framed"
    RESULT_KEPT = "result.kept"
    BLOB_DELETED = "blob.deleted"
    JOB_OPENED = "job.opened"
    JOB_STARTED = "job.started"


_watcher: Callable[[Point], None] | None = None


def reached(point: Point) -> None:
    """Call the watcher, if there is one; only tests set one."""
    if _watcher is not None:
        _watcher(point)


def watch(watcher: Callable[[Point], None]) -> None:
    """Set the function that is called at each moment, on the thread that reaches it."""
    global _watcher
    _watcher = watcher
