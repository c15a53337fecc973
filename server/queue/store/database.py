"""The open database: one thread writes and commits in groups, two read; every operation returns a future."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from server.points import Point, reached
from server.queue.facts import errors
from server.queue.facts.news import Listener, News
from server.queue.facts.states import Clock, Ids
from server.queue.store.lanes import Lane, Task
from server.queue.store.statements import Cursor, Statements
from server.queue.store.transactions import Transaction

log = logging.getLogger(__name__)

R = TypeVar("R")

Begin = Callable[[], contextlib.AbstractContextManager[Cursor]]  # a transaction, committed when it is left

READERS = 2
GROUP = 64  # operations that share one commit at most: bounds what one slow group can hold up
WAITING = 2000  # operations that may wait for each lane: about a second of work
AGAIN = 4  # times that an operation is tried when other servers get in its way


def since_boot() -> float:
    """Seconds since this machine started. They go on while it is suspended; those of ``time.monotonic`` stand still."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def steady(wall: Clock = time.time, counting: Clock = since_boot) -> Clock:
    """A clock that reads the system's once and then only counts on: a jump of it ends no lease and no deadline."""
    start = wall() - counting()
    return lambda: start + counting()


class Database(ABC):
    """Runs operations; ``write`` and ``read`` may be called from any thread and from an event loop."""

    def __init__(
        self,
        write: Begin,
        read: Begin,
        statements: Statements,
        clock: Clock,
        ids: Ids,
        resources: contextlib.ExitStack,
    ) -> None:
        """Use ``open`` of the kind that is wanted."""
        self.clock, self.ids = clock, ids
        self._statements = statements
        self._resources = resources
        self._listeners: list[Listener] = []
        self._own_listeners: list[Listener] = []
        self._make_room: Callable[[], bool] = lambda: False
        self._doubted = False
        serve = functools.partial
        self._committed: Callable[[float], None] = lambda _: None
        writer = serve(self._serve, serve(self._timed, write))
        self._writing: Lane[Transaction] = Lane("writer", [writer], WAITING, GROUP)
        self._reading: Lane[Transaction] = Lane("readers", [serve(self._serve, read)] * READERS, WAITING)

    def write(self, operation: Callable[[Transaction], R]) -> Future[R]:
        """Run it in the writer's next transaction; resolved once that is on disk.

        An operation may run twice, when another one spoils the transaction they share: it must do nothing but database
        work. The future raises what the operation raised, or ``StorageError`` and its kin.
        """
        return self._writing.put(operation)

    def read(self, operation: Callable[[Transaction], R]) -> Future[R]:
        """Run it on a read connection: it sees every write that was resolved before this call."""
        return self._reading.put(operation)

    def listen(self, listener: Listener, *, own: bool = False) -> None:
        """Call ``listener`` with the news of each commit, on a thread of the database, which waits for it to return.

        ``own``: only of the commits of this process, not of other servers on the same database.
        """
        (self._own_listeners if own else self._listeners).append(listener)

    def when_full(self, make_room: Callable[[], bool]) -> None:
        """Call ``make_room`` when the disk has no room for a write; if it returns True, the write is tried again."""
        self._make_room = make_room

    def when_committed(self, told: Callable[[float], None]) -> None:
        """Call ``told`` with the seconds that each transaction of the writer took, until it was on disk."""
        self._committed = told

    def take_doubt(self) -> bool:
        """Whether storage has failed since the last call."""
        doubted, self._doubted = self._doubted, False
        return doubted

    def leads(self) -> bool:
        """Whether this process is the one that leads now. Blocks for as long as asking takes."""
        return True

    def close(self) -> None:
        """Finish what waits and let everything go."""
        self._reading.close()
        self._writing.close()
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @abstractmethod
    def _ours(self, cause: Exception) -> Exception:
        """The error of ``facts.errors`` for one of the driver's; any other is answered as it is."""

    def _passes(self, error: Exception) -> bool:
        """Whether the same operation may succeed when it is tried again at once."""
        return False

    def _slot(self, cursor: Cursor) -> int:
        """In which slot of the tables of counts the session of a cursor writes."""
        return 0

    def _tell_others(self, news: Sequence[News]) -> None:  # noqa: B027 (there need not be others)
        """Tell other processes with the same database the news of a commit."""

    @contextlib.contextmanager
    def _timed(self, begin: Begin) -> Iterator[Cursor]:
        began = time.perf_counter()
        with begin() as cursor:
            yield cursor
        try:
            self._committed(time.perf_counter() - began)
        except Exception:  # the transaction is kept, and must not count as failed
            log.exception("what measures commits failed")

    def _serve(self, begin: Begin, tasks: list[Task[Transaction]], tries: int = AGAIN) -> None:
        """Run a group of operations in one transaction and resolve their futures; if it fails, see ``_fail``."""
        committing = False
        try:
            with begin() as cursor:
                transaction = Transaction(cursor, self._statements, self.clock(), self._slot(cursor))
                reached(Point.ROWS_BEGUN)
                outcomes = [_attempt(task, transaction) for task in tasks]
                reached(Point.ROWS_WRITTEN)
                committing = True
        except Exception as cause:  # noqa: BLE001 (whatever it is, it belongs to the callers)
            error = self._ours(cause)
            # A COMMIT that failed may have taken effect: the disk or the connection broke before the answer came. Only
            # a full disk leaves no doubt: the database could still report it, and rolled back.
            if committing and isinstance(error, errors.StorageError) and not isinstance(error, errors.DiskFull):
                error = errors.OutcomeUnknown(f"whether it was kept is not known: {error}")
            self._fail(error, begin, tasks, tries)
            return
        reached(Point.ROWS_COMMITTED)
        if transaction.news:
            # Before the futures: the client that waits for its labels is served before the worker that sent them.
            self._announce(transaction.news, self._listeners + self._own_listeners)
        for task, (result, refusal) in zip(tasks, outcomes, strict=True):
            if refusal is None:
                task.future.set_result(result)
            else:
                task.future.set_exception(refusal)
        reached(Point.ROWS_TOLD)
        if transaction.news:
            self._tell_others(transaction.news)

    def _fail(self, error: Exception, begin: Begin, tasks: list[Task[Transaction]], tries: int) -> None:
        """After a transaction that was not kept: run its operations again where that may help, else say why not.

        Never after ``OutcomeUnknown``: what is run again could be done twice.
        """
        if isinstance(error, errors.DiskFull) and tries == AGAIN and self._make_room():
            self._serve(begin, tasks, tries - 1)
            return
        self._doubted = self._doubted or isinstance(error, errors.StorageError)
        if isinstance(error, errors.ConnectionLost | errors.ReadOnly) and tries == AGAIN:
            # The connection may have broken long ago, while nobody used it, or its server is no longer the primary.
            self._serve(begin, tasks, tries - 1)
        elif isinstance(error, errors.StorageError | errors.DatabaseBusy):
            for task in tasks:
                task.future.set_exception(error)
        elif len(tasks) > 1:  # one of them is to blame, or together they locked rows in another server's opposite order
            for task in tasks:
                self._serve(begin, [task])
        elif tries > 1 and self._passes(error):
            self._serve(begin, tasks, tries - 1)
        else:
            tasks[0].future.set_exception(error)

    def _announce(self, news: Sequence[News], listeners: Sequence[Listener]) -> None:
        for listener in listeners:
            try:
                listener(news)
            except Exception:
                log.exception("a listener of the queue failed")


def _attempt(task: Task[Transaction], transaction: Transaction) -> tuple[Any, errors.RuleRefusal | None]:
    try:
        return task.operation(transaction), None
    except errors.RuleRefusal as refusal:
        return None, refusal
