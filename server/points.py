"""Named moments around everything that makes work durable, so that tests can end the process at each of them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Point(StrEnum):
    """A moment just after something was done, and before anything that follows from it."""

    BODY_READ = "body.read"
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
    """Tell whoever watches; nobody does outside tests."""
    if _watcher is not None:
        _watcher(point)


def watch(watcher: Callable[[Point], None]) -> None:
    """Have each moment told to ``watcher``, on the thread that reaches it."""
    global _watcher
    _watcher = watcher
