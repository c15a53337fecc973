"""Operations on the database: methods that are given a transaction, and whose callers get a future."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa

from server.queue.facts.news import Available, Listener, News
from server.queue.facts.states import Ids
from server.queue.store.statements import Cursor, Row, Statements

P = ParamSpec("P")
R = TypeVar("R")


class Transaction:
    """What an operation reads and writes with. All that share the transaction have the same time, ``now``."""

    def __init__(self, cursor: Cursor, statements: Statements, now: float, slot: int = 0) -> None:
        """``slot`` is where the session counts, apart from those of other servers."""
        self.cursor, self._statements = cursor, statements
        self.now, self.slot = now, slot
        self.news: list[News] = []
        self._available: set[Available] = set()

    def tell(self, news: News) -> None:
        """Tell the listeners once the transaction is committed; the same ``Available`` is told only once."""
        if isinstance(news, Available):
            if news in self._available:
                return
            self._available.add(news)
        self.news.append(news)

    def rows(self, statement: sa.Executable, **values: object) -> Sequence[Row]:
        """Every row of a SELECT, or of what a DELETE returns."""
        prepared, given = self._statements(statement, values)
        self.cursor.execute(prepared.text, given)
        return prepared.rows(self.cursor)

    def first(self, statement: sa.Select[Any], **values: object) -> Row | None:
        """The first row of a SELECT that finds few, or None."""
        # All of them are fetched, since a SELECT that is not at its end keeps its snapshot in SQLite.
        found = self.rows(statement, **values)
        return found[0] if found else None

    def change(self, statement: sa.UpdateBase, rows: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> int:
        """Write one row, or many with one statement; answers how many rows changed."""
        if isinstance(rows, Mapping):
            prepared, given = self._statements(statement, rows)
            self.cursor.execute(prepared.text, given)
        elif rows:
            prepared, given = self._statements(statement, rows[0])
            self.cursor.executemany(prepared.text, [given, *map(prepared.positional, rows[1:])])
        else:
            return 0
        return self.cursor.rowcount


class Transactions(Protocol):
    """Where operations run: a ``Database``."""

    ids: Ids

    def write(self, operation: Callable[[Transaction], R]) -> Future[R]:
        """Run it; resolved once it is on disk."""

    def read(self, operation: Callable[[Transaction], R]) -> Future[R]:
        """Run it where nothing can be changed."""

    def listen(self, listener: Listener, *, own: bool = False) -> None:
        """Hear the news of commits."""

    def leads(self) -> bool:
        """Whether this process leads now."""

    def when_committed(self, told: Callable[[float], None]) -> None:
        """Have ``told`` called with the seconds of each transaction that writes."""

    def take_doubt(self) -> bool:
        """Whether storage has failed since the last call."""


class Operations:
    """A set of operations on one database."""

    def __init__(self, database: Transactions) -> None:
        self._database = database


Own = TypeVar("Own", bound=Operations)


def write(method: Callable[Concatenate[Own, Transaction, P], R]) -> Callable[Concatenate[Own, P], Future[R]]:
    """Make a method that takes a transaction one that answers a future, resolved when its changes are on disk."""

    @functools.wraps(method)
    def call(self: Own, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        return self._database.write(lambda transaction: method(self, transaction, *args, **kwargs))

    return call


def read(method: Callable[Concatenate[Own, Transaction, P], R]) -> Callable[Concatenate[Own, P], Future[R]]:
    """Make a method that takes a transaction one that answers a future and changes nothing."""

    @functools.wraps(method)
    def call(self: Own, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        return self._database.read(lambda transaction: method(self, transaction, *args, **kwargs))

    return call
