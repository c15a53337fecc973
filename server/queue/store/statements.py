"""Statements of SQLAlchemy, compiled once for a dialect and then run by the driver itself.

SQLAlchemy's own way from a statement to the driver takes several times as long as SQLite needs for the statement.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol

import sqlalchemy as sa

Values = Mapping[str, Any]


class Row(Protocol):
    """A row that a statement answered: a named tuple. What has no name, as a literal, is found by position."""

    def __getattr__(self, name: str) -> Any: ...

    def __getitem__(self, index: int) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...

    def _asdict(self) -> dict[str, Any]: ...


class Cursor(Protocol):
    """The cursor of a driver (PEP 249), of which one is enough for a transaction."""

    @property
    def description(self) -> Any:
        """What the columns of the rows are; the second of each is its type."""

    @property
    def rowcount(self) -> int:
        """How many rows the last call changed."""

    def execute(self, text: Any, values: Any = ..., /) -> Any:
        """Run one statement."""

    def executemany(self, text: Any, values: Any, /) -> Any:
        """Run one statement for many rows of values."""

    def fetchall(self) -> list[Any]:
        """The rows that are left."""


class Prepared:
    """A statement as text, and what makes of a caller's values and the driver's rows what the other side wants."""

    def __init__(self, statement: sa.Executable, dialect: sa.Dialect, values: Values) -> None:
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        state = compiled.construct_expanded_state(dict(values))
        self.text: str = state.statement
        self.expanded: Mapping[str, list[str]] = state.parameter_expansion
        self._dialect = dialect
        # What a SELECT finds, or what RETURNING answers.
        self._columns = list(statement.exported_columns)  # type: ignore[attr-defined]
        self._make: Callable[[Any], Row] | None = None
        order: list[str] = list(state.positiontup or ())
        given = {*values, *(name for names in self.expanded.values() for name in names)}
        self._fixed = {name: state.parameters[name] for name in order if name not in given}
        self._processors = {name: state.processors[name] for name in order if name in state.processors}
        self._pick: Callable[[Values], tuple[Any, ...]] = (
            itemgetter(*order) if len(order) > 1 else lambda found: tuple(found[name] for name in order)
        )

    def positional(self, values: Values) -> tuple[Any, ...]:
        """The values in the order in which the text names them. Raises ``KeyError`` for one that is missing."""
        if self._fixed or self.expanded or self._processors:
            values = {**self._fixed, **values}
            for name, names in self.expanded.items():
                values.update(zip(names, values[name], strict=True))
            for name, process in self._processors.items():
                values[name] = process(values[name])
        return self._pick(values)

    def rows(self, cursor: Cursor) -> list[Row]:
        """The rows of the cursor, which has just run the text."""
        if self._make is None:
            self._make = self._maker(cursor)
        return list(map(self._make, cursor.fetchall()))

    def _maker(self, cursor: Cursor) -> Callable[[Any], Row]:
        kind: Any = namedtuple("Row", [column.key or "" for column in self._columns], rename=True)  # type: ignore[misc]
        types = [column.type.dialect_impl(self._dialect) for column in self._columns]
        found = [
            of.result_processor(self._dialect, described[1])
            for of, described in zip(types, cursor.description, strict=True)
        ]
        processors = [(at, process) for at, process in enumerate(found) if process is not None]
        plain: Callable[[Any], Any] = functools.partial(tuple.__new__, kind)  # half the time of its ``_make``
        if not processors:
            return plain

        def make(answered: Sequence[Any]) -> Any:
            values = list(answered)
            for at, process in processors:
                values[at] = process(values[at])
            return plain(values)

        return make


class Statements:
    """The prepared statements of one database. Each is kept for ever: statements are built once, by their modules."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect
        self._known: dict[sa.Executable, Prepared] = {}
        self._sized: dict[tuple[sa.Executable, int], Prepared] = {}

    def __call__(self, statement: sa.Executable, values: Values) -> tuple[Prepared, tuple[Any, ...]]:
        """A statement, prepared, with its values in order."""
        prepared = self._known.get(statement)
        if prepared is None:
            prepared = self._known[statement] = Prepared(statement, self._dialect, values)
        if prepared.expanded:
            values = {**values, **{name: _filled(values[name]) for name in prepared.expanded}}
            size = max(len(values[name]) for name in prepared.expanded)
            if (sized := self._sized.get((statement, size))) is None:
                sized = self._sized[statement, size] = Prepared(statement, self._dialect, values)
            prepared = sized
        return prepared, prepared.positional(values)


def _filled(found: list[Any]) -> list[Any]:
    """The values of an IN with its last one repeated up to a power of two, so that few lengths have to be prepared."""
    size = 1 << (len(found) - 1).bit_length() if found else 0
    return [*found, *(found[-1:] * (size - len(found)))]
