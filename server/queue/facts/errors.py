"""Every error that the queue raises: none of sqlalchemy or of a driver leaves this package."""

from __future__ import annotations

from pathlib import Path


class QueueError(Exception):
    """The queue could not do it: the text says why, in a sentence for an operator."""


class RuleRefusal(QueueError):
    """A rule of the queue says no. Raised before anything is written, so that it never spoils its transaction."""


class QueueFull(RuleRefusal):
    """The tier's queue is full. ``oldest``: when the oldest prediction that waits was accepted, in epoch seconds."""

    def __init__(self, tier: str, depth: int, limit: int, oldest: float | None) -> None:
        super().__init__(f"the queue of tier {tier} is full: {depth} of {limit} places are taken")
        self.tier, self.depth, self.limit, self.oldest = tier, depth, limit, oldest


class QueueBytesFull(RuleRefusal):
    """The pictures of a tier's live predictions take all the bytes that they may, or would with this one's."""

    def __init__(self, tier: str, taken: int, limit: int) -> None:
        super().__init__(f"the pictures of tier {tier} take {taken} of {limit} bytes")
        self.tier, self.taken, self.limit = tier, taken, limit


class CallerQueueFull(RuleRefusal):
    """As many predictions of one caller wait in the tier as may."""

    def __init__(self, caller: str, depth: int, limit: int) -> None:
        super().__init__(f"{depth} predictions of {caller} wait, and {limit} may")
        self.caller, self.depth, self.limit = caller, depth, limit


class CallerQueueBytesFull(RuleRefusal):
    """The pictures of one caller's waiting predictions take all the bytes that they may, or would with this one's."""

    def __init__(self, caller: str, taken: int, limit: int) -> None:
        super().__init__(f"the waiting pictures of {caller} take {taken} of {limit} bytes")
        self.caller, self.taken, self.limit = caller, taken, limit


class UnknownJob(RuleRefusal):
    """No live Job of that name and tier: a worker that hears this has nothing to do any more."""

    def __init__(self, job: str) -> None:
        super().__init__(f"{job} is no live Job of this tier")
        self.job = job


class PepperDiffers(RuleRefusal):
    """The keys of this database were made with another pepper than this server's."""

    def __init__(self) -> None:
        super().__init__("the keys of this database were made with another pepper than this server has")


class TooManyModels(RuleRefusal):
    """As many models are kept as may be."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} models are kept, and no more may be: remove some first")
        self.limit = limit


class TooManyTags(RuleRefusal):
    """The models of a name have as many tags as they may."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(f"the models of the name {name} have {limit} tags, and may have no more")
        self.name, self.limit = name, limit


class VersionTaken(RuleRefusal):
    """A model of that name and version is kept whose digest, of which the version is a part, is another one."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"there is another model {reference}, with another digest")
        self.reference = reference


class Lost(QueueError):
    """A change found its row in another state than the one it names; nothing of its transaction was kept."""


class Conflict(QueueError):
    """A constraint of the tables refused the rows, such as an id that is already there."""


class DatabaseBusy(QueueError):
    """More operations wait than may wait, or the file stayed locked: ask again a little later."""


class DatabaseClosed(QueueError):
    """The database was closed before this operation came."""


class Collided(QueueError):
    """Another server's transaction got in the way (deadlock, serialization); nothing of this one was kept."""


class StorageError(QueueError):
    """The disk refused, or the database is away. Nothing of the operation was kept; ask again later."""


class ConnectionLost(StorageError):
    """The connection to the database broke, or none could be made."""


class DiskFull(StorageError):
    """The disk has no room."""


class ReadOnly(StorageError):
    """The database can only be read for now: its filesystem was mounted so, or its server is a standby."""


class OutcomeUnknown(StorageError):
    """The disk failed, or the connection broke, while the commit was being made: nobody knows whether it was kept.

    The same submission can be sent again if it has an idempotency key, which then finds what was kept.
    """


class CannotOpen(QueueError):
    """The data directory cannot be used; the server must not start."""


class DatabaseAway(CannotOpen):
    """The database cannot be reached, or lets nobody in, for now: it may help to ask again a little later."""


class DataInUse(CannotOpen):
    """Another process holds the data directory."""

    def __init__(self, directory: Path, holder: str) -> None:
        super().__init__(
            f"{directory} is in use by {holder}. SQLite data belongs to one server at a time: "
            f"stop that one first, or give this one another data directory (make run STATE=...)."
        )


class NetworkFilesystem(CannotOpen):
    """The data directory lies on a filesystem where SQLite's locks and shared memory cannot be trusted."""

    def __init__(self, directory: Path, kind: str) -> None:
        super().__init__(
            f"{directory} lies on a network filesystem ({kind}), where SQLite loses data. "
            f"Use a local disk or a block volume (ReadWriteOnce)."
        )


class NewerSchema(CannotOpen):
    """The data was written by a newer version."""

    def __init__(self, where: str, found: int, known: int) -> None:
        super().__init__(
            f"{where} has schema version {found}, this version of tierserve knows {known}: "
            f"run the version that wrote it, or a newer one."
        )
