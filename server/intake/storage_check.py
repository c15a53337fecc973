"""Whether the storage takes new work: a cheap look once a second, and a write only while something seems wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus

from server.blobs import BlobError, Blobs, BlobsFull
from server.disk import Disk, Room
from server.problems import Problem
from server.queue import DiskFull, Queue, QueueError, ReadOnly, StorageError

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 30.0  # longer than a database may take for a statement and a lock
RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why nothing new is accepted: the stable ``code`` of a problem, a sentence, and the numbers that belong to it."""

    code: str
    detail: str
    numbers: Mapping[str, int] = field(default_factory=dict, hash=False)

    @property
    def problem(self) -> Problem:
        """What a request for new work is answered with."""
        detail = f"nothing was kept: {self.detail}"
        return Problem(
            HTTPStatus.SERVICE_UNAVAILABLE, self.code, detail, retry_after=RETRY_SECONDS, **dict(self.numbers)
        )


class StorageCheck:
    """Looks at the disks, the database and the blobs. ``step`` is for a thread of its own; the rest never blocks.

    What was accepted goes on whatever is found: its results and its end are written, and make room.
    """

    def __init__(self, queue: Queue, blobs: Blobs, disks: Sequence[Disk] = (), pictures: Disk | None = None) -> None:
        """``pictures`` is the disk of ``disks`` to which pictures are written, if they go to one."""
        self._queue, self._blobs, self._disks, self._pictures = queue, blobs, disks, pictures
        self._rooms: dict[Disk, Room] = {}
        self._doubts = {"queue": False, "blobs": False}
        self.obstacle: Obstacle | None = None

    @property
    def rooms(self) -> Mapping[str, Room]:
        """What there was on each disk at the last look, by its name."""
        return {disk.name: room for disk, room in list(self._rooms.items())}

    def doubt_blobs(self) -> None:
        """A blob could not be kept: the next step tries it out."""
        self._doubts["blobs"] = True

    def admit(self, size: int) -> None:
        """Raises ``Problem`` with 503 while nothing new is taken, or if ``size`` bytes would touch the reserve."""
        if self.obstacle is not None:
            raise self.obstacle.problem
        room = self._rooms.get(self._pictures) if self._pictures is not None else None
        if room is not None and room.free - size < room.reserve:
            raise _disk_full(room).problem

    def step(self) -> None:
        """Look once; an outage is logged when it begins and when it ends."""
        found = self._look()
        if found is not None and self.obstacle is None:
            log.warning("the storage takes no new work (%s): %s", found.code, found.detail)
        elif found is None and self.obstacle is not None:
            log.warning("the storage takes new work again")
        self.obstacle = found

    def _look(self) -> Obstacle | None:
        found = [self._look_at(disk) for disk in self._disks]
        if obstacle := next(filter(None, found), None):
            return obstacle
        if self._queue.take_doubt():
            self._doubts["queue"] = True
        return self._tried("queue", lambda: _answer(self._queue.try_out())) or self._tried("blobs", self._blobs.try_out)

    def _look_at(self, disk: Disk) -> Obstacle | None:
        try:
            room = self._rooms[disk] = disk.look()
        except OSError as error:
            return Obstacle("storage_unavailable", f"the disk cannot be looked at: {error.strerror}")
        if room.read_only:
            return Obstacle("read_only", "the disk can only be read")
        return _disk_full(room) if room.full else None

    def _tried(self, what: str, write: Callable[[], object]) -> Obstacle | None:
        """What a write finds that is only made if the last one failed."""
        if not self._doubts[what]:
            return None
        try:
            write()
        except (QueueError, BlobError, OSError) as error:
            return obstacle_of(error)
        self._doubts[what] = False
        return None


def obstacle_of(error: Exception) -> Obstacle:
    """What an error of the queue or of the blobs says about the storage."""
    match error:
        case BlobsFull(code=code, numbers=numbers):
            return Obstacle(code, str(error), numbers)
        case DiskFull():
            return Obstacle("disk_full", str(error))
        case ReadOnly():
            return Obstacle("read_only", str(error))
        case StorageError() | BlobError():
            return Obstacle("storage_unavailable", str(error))
    return Obstacle("storage_unavailable", f"a write did not work: {error}")


def _disk_full(room: Room) -> Obstacle:
    words = f"{room.free} bytes of the disk are free; {room.reserve} are kept for finishing what was accepted"
    return Obstacle("disk_full", words, {"free_bytes": room.free, "reserve_bytes": room.reserve})


def _answer(future: Future[None]) -> None:
    future.result(ANSWER_SECONDS)
