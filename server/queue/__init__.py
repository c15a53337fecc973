"""The durable queue: what was accepted is on disk, and reaches exactly one final state.

All that others need is imported from here; the modules inside are nobody else's. PostgreSQL's driver is imported only
when ``open_database`` is given a URL.
"""

from server.queue.asking import Recent, RecentByName, asked, chained
from server.queue.facts.errors import (
    CannotOpen,
    Collided,
    Conflict,
    ConnectionLost,
    DatabaseAway,
    DatabaseBusy,
    DatabaseClosed,
    DataInUse,
    DiskFull,
    Lost,
    NetworkFilesystem,
    NewerSchema,
    OutcomeUnknown,
    QueueError,
    QueueFull,
    RuleRefusal,
    StorageError,
    UnknownJob,
)
from server.queue.facts.news import Anything, Available, Ended, Listener, Moved, News
from server.queue.facts.records import (
    ATTEMPTS,
    NEVER_SEEN,
    Completion,
    Depth,
    JobRow,
    Leased,
    Pace,
    Position,
    Prediction,
    Reclaimed,
    Strikes,
    Submission,
    TierView,
)
from server.queue.facts.states import EDGES, FINAL, Clock, Ids, Status, is_id, new_id
from server.queue.opening import open_database
from server.queue.queue import Queue
from server.queue.store.database import Database, steady
from server.queue.store.sqlite import SQLite

__all__ = [
    "ATTEMPTS",
    "EDGES",
    "FINAL",
    "NEVER_SEEN",
    "Anything",
    "Available",
    "CannotOpen",
    "Clock",
    "Collided",
    "Completion",
    "Conflict",
    "ConnectionLost",
    "DataInUse",
    "Database",
    "DatabaseAway",
    "DatabaseBusy",
    "DatabaseClosed",
    "Depth",
    "DiskFull",
    "Ended",
    "Ids",
    "JobRow",
    "Leased",
    "Listener",
    "Lost",
    "Moved",
    "NetworkFilesystem",
    "NewerSchema",
    "News",
    "OutcomeUnknown",
    "Pace",
    "Position",
    "Prediction",
    "Queue",
    "QueueError",
    "QueueFull",
    "Recent",
    "RecentByName",
    "Reclaimed",
    "RuleRefusal",
    "SQLite",
    "Status",
    "StorageError",
    "Strikes",
    "Submission",
    "TierView",
    "UnknownJob",
    "asked",
    "chained",
    "is_id",
    "new_id",
    "open_database",
    "steady",
]
