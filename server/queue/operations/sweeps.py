"""What is counted for nobody any more: walks through the tables of counts and of shares, page by page."""

from __future__ import annotations

from collections import Counter
from typing import Any

import sqlalchemy as sa

from server.queue.facts.states import Status
from server.queue.operations.moves import bind
from server.queue.store.tables import depths, literal, predictions, shares, waiting
from server.queue.store.transactions import Operations, Transaction, write

PAGE = 1000  # rows that one call looks at: some milliseconds of the writer's time, also if it deletes all of them
OWN_SLOT = -1  # of the counts that no session keeps
IDLE_SECONDS = 600.0  # after which a caller of whom nothing waits is forgotten, also if its tier stands still

Visited = tuple[str | int, ...]  # the key of the row that a walk has come to


def _bounds(columns: sa.Tuple) -> tuple[sa.ColumnElement[bool], ...]:
    """The part of a walk that lies after ``:after_0 ...`` and not after ``:last_0 ...``."""
    names = range(len(columns.clauses))
    after, last = (sa.tuple_(*(bind(f"{name}_{index}") for index in names)) for name in ("after", "last"))
    return columns > after, columns <= last


_w, _s, _p = waiting.c, shares.c, predictions.c
_counted = sa.tuple_(_w.tier, _w.level, _w.priority, _w.turn, _w.moment)
_COUNTS = sa.select(*_counted.clauses).where(_bounds(_counted)[0]).order_by(*waiting.primary_key).limit(PAGE)
# Its sum is 0, though on PostgreSQL the counts of its slots need not be.
_emptied = (
    sa.select(*_counted.clauses)
    .where(*_bounds(_counted))
    .group_by(*_counted.clauses)
    .having(sa.func.sum(_w.queued) == 0)
)
_FORGET_COUNTS = sa.delete(waiting).where(_counted.in_(_emptied)).returning(*_counted.clauses, _w.queued)
_KEEP_COUNT = sa.insert(waiting).values({column.name: bind(f"new_{column.name}") for column in _w})
_keyed = sa.tuple_(_s.tier, _s.caller, _s.slot)
_SHARES = sa.select(*_keyed.clauses).where(_bounds(_keyed)[0]).order_by(*_keyed.clauses).limit(PAGE)
_reached = sa.select(sa.func.max(depths.c.turn)).where(depths.c.tier == _s.tier).scalar_subquery()
_waits = sa.exists().where(_p.tier == _s.tier, _p.caller == _s.caller, _p.status == literal(Status.QUEUED))
_unneeded = sa.or_(_s.finish <= _reached, sa.and_(_s.used_at <= bind("before"), ~_waits))
# Rows that another server has locked are skipped, as it is charging their callers.
_FORGET_SHARES = sa.delete(shares).where(
    _keyed.in_(sa.select(*_keyed.clauses).where(*_bounds(_keyed), _unneeded).with_for_update(skip_locked=True))
)


class Sweeps(Operations):
    """The part of the queue that walks: each call does the page after ``after``, and answers where the next one begins.

    The first call is given None, and the last one answers None.
    """

    @write
    def forget_counts(self, tx: Transaction, after: Visited | None = None) -> Visited | None:
        """Delete the counts of what nothing waits of any more."""
        bounds, last, more = _page(tx, _COUNTS, after or ("", 0, 0, 0, 0))
        if last is None:
            return None
        left: Counter[tuple[Any, ...]] = Counter()
        for row in tx.rows(_FORGET_COUNTS, **bounds):
            *counted, queued = row
            left[tuple(counted)] += queued
        # Another server may have counted on after the SELECT, before the DELETE got the row.
        kept = [
            {f"new_{column.name}": value for column, value in zip(_w, (*of, OWN_SLOT, queued), strict=True)}
            for of, queued in left.items()
            if queued
        ]
        tx.change(_KEEP_COUNT, kept)
        return last if more else None

    @write
    def forget_shares(self, tx: Transaction, after: Visited | None = None) -> Visited | None:
        """Delete the shares of callers who would start at the next turn also without them.

        And of those of whom nothing waits and nothing came for ``IDLE_SECONDS``: a tier that stands still would keep
        every caller that it ever had. It does not matter that what other sessions have seen of such a row goes with it.
        """
        bounds, last, more = _page(tx, _SHARES, after or ("", "", 0))
        if last is not None:
            tx.change(_FORGET_SHARES, bounds | {"before": tx.now - IDLE_SECONDS})
        return last if more else None


def _page(tx: Transaction, statement: sa.Select[Any], after: Visited) -> tuple[dict[str, Any], Visited | None, bool]:
    """The values of ``_bounds`` for the next page, the last key of it, and whether there may be others."""
    begin = {f"after_{index}": value for index, value in enumerate(after)}
    rows = tx.rows(statement, **begin)
    if not rows:
        return begin, None, False
    last = tuple(rows[-1])
    return begin | {f"last_{index}": value for index, value in enumerate(last)}, last, len(rows) == PAGE
