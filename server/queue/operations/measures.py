"""How the models did in each tier, summed over all servers; each session writes rows of its own slot, as in ``uses``.

On PostgreSQL two sessions can have one slot, so that a row is locked from reading it to writing it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from server.queue.facts.models import Measured
from server.queue.operations.moves import bind
from server.queue.store.statements import Row
from server.queue.store.tables import measures
from server.queue.store.transactions import Operations, Transaction, read, write

PAGE = 100  # rows that one call deletes at most
KEPT = 30 * 86400.0  # seconds for which a row stays to which nothing is added

Pair = tuple[str, str]
"""A tier, and the ``Served.key`` of a model."""

_m = measures.c
_COUNTS = ("predictions", "pictures", "failed", "unsure")
_SHOWN = (_m.tier, _m.model, *(_m[name] for name in _COUNTS), _m.milliseconds)
_MINE = (
    sa.select(*_SHOWN)
    .where(_m.tier == bind("of"), _m.model.in_(sa.bindparam("keys", expanding=True)), _m.slot == bind("own"))
    .order_by(_m.model)
    .with_for_update()
)
_given = {name: bind(f"new_{name}") for name in (*_COUNTS, "milliseconds")}
_UPDATE = (
    sa.update(measures)
    .where(_m.tier == bind("of"), _m.model == bind("key"), _m.slot == bind("own"))
    .values(_given | {"touched_at": bind("now")})
)
_INSERT = sa.insert(measures).values(
    {"tier": bind("of"), "model": bind("key"), "slot": bind("own"), "touched_at": bind("now")} | _given
)
_ALL = sa.select(*_SHOWN)
_keyed = sa.tuple_(_m.tier, _m.model, _m.slot)
_old = sa.select(*_keyed.clauses).where(_m.touched_at <= bind("before")).limit(PAGE).with_for_update(skip_locked=True)
_FORGET = sa.delete(measures).where(_keyed.in_(_old))


class Measures(Operations):
    """The part of the queue that keeps how models did."""

    @write
    def measure(self, tx: Transaction, rows: Sequence[tuple[str, str, Measured]]) -> None:
        """Add what this server has measured of models (tier, ``Served.key``) since it last told."""
        more: dict[Pair, Measured] = {}
        keys: dict[str, set[str]] = {}
        for tier, key, measured in rows:
            more[tier, key] = _sum(more.get((tier, key), Measured()), measured)
            keys.setdefault(tier, set()).add(key)
        found = [row for tier in sorted(keys) for row in tx.rows(_MINE, of=tier, keys=sorted(keys[tier]), own=tx.slot)]
        known = {(row.tier, row.model): _measured(row) for row in found}
        for statement, pairs in ((_UPDATE, more.keys() & known), (_INSERT, more.keys() - known)):
            summed = [(pair, _sum(known.get(pair, Measured()), more[pair])) for pair in sorted(pairs)]
            tx.change(statement, [_values(pair, one) | {"own": tx.slot, "now": tx.now} for pair, one in summed])

    @read
    def measured(self, tx: Transaction) -> dict[Pair, Measured]:
        """How each model did in each tier, by all servers together."""
        summed: dict[Pair, Measured] = {}
        for row in tx.rows(_ALL):
            pair = row.tier, row.model
            summed[pair] = _sum(summed.get(pair, Measured()), _measured(row))
        return summed

    @write
    def forget_measures(self, tx: Transaction) -> bool:
        """Delete rows to which nothing was added for 30 days, at most ``PAGE``; True: there may be others."""
        return tx.change(_FORGET, {"before": tx.now - KEPT}) == PAGE


def _measured(row: Row) -> Measured:
    times = {int(at): many for at, many in json.loads(row.milliseconds).items()}
    return Measured(**{name: int(getattr(row, name)) for name in _COUNTS}, milliseconds=times)


def _sum(one: Measured, other: Measured) -> Measured:
    counts = {name: getattr(one, name) + getattr(other, name) for name in _COUNTS}
    times = Counter(one.milliseconds) + Counter(other.milliseconds)
    return Measured(**counts, milliseconds=times)


def _values(pair: Pair, one: Measured) -> dict[str, Any]:
    given = {f"new_{name}": getattr(one, name) for name in _COUNTS}
    times = {str(at): many for at, many in sorted(one.milliseconds.items())}
    return given | {"of": pair[0], "key": pair[1], "new_milliseconds": json.dumps(times)}
