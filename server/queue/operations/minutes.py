"""What happened in each minute to the predictions of each tier, summed over all servers; it is kept for an hour.

Each session writes rows of its own slot, as in ``measures``, and locks them from reading to writing them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from server.queue.facts.minutes import KEPT_MINUTES, Minute, minute_of
from server.queue.operations.moves import bind
from server.queue.store.statements import Row
from server.queue.store.tables import minutes
from server.queue.store.transactions import Operations, Transaction, read, write

PAGE = 1000  # rows that one call deletes at most

Moment = tuple[str, int]
"""A tier and a minute."""

_m = minutes.c
_COUNTS = ("accepted", "succeeded", "failed")
_SHOWN = (_m.minute, *(_m[name] for name in _COUNTS))
_OWN = (_m.tier == bind("of"), _m.minute == bind("then"), _m.slot == bind("own"))
_MINE = sa.select(*_SHOWN, _m.waits).where(*_OWN).with_for_update()
_given = {name: bind(f"new_{name}") for name in (*_COUNTS, "waits")}
_UPDATE = sa.update(minutes).where(*_OWN).values(_given)
_INSERT = sa.insert(minutes).values({"tier": bind("of"), "minute": bind("then"), "slot": bind("own")} | _given)
_OF_TIER = (
    sa.select(*_SHOWN, _m.waits)
    .where(_m.tier == bind("of"), _m.minute >= bind("first"))
    .order_by(_m.tier, _m.minute, _m.slot)
)
_OF_TIERS = sa.select(_m.tier, *_SHOWN).where(
    _m.tier.in_(sa.bindparam("tiers", expanding=True)), _m.minute >= bind("first")
)
_keyed = sa.tuple_(_m.tier, _m.minute, _m.slot)
_old = sa.select(*_keyed.clauses).where(_m.minute < bind("first")).limit(PAGE).with_for_update(skip_locked=True)
_FORGET = sa.delete(minutes).where(_keyed.in_(_old))


class Minutes(Operations):
    """The part of the queue that keeps what happened within the last hour."""

    @write
    def count(self, tx: Transaction, told: Sequence[tuple[str, Minute]]) -> None:
        """Add what this server has counted in minutes of tiers since it last told."""
        more: dict[Moment, Minute] = {}
        for tier, minute in told:
            before = more.get((tier, minute.at), Minute(minute.at))
            more[tier, minute.at] = _sum(before, minute)
        for (tier, at), minute in sorted(more.items(), key=lambda item: item[0]):
            row = tx.first(_MINE, of=tier, then=at, own=tx.slot)
            summed = minute if row is None else _sum(_minute(row), minute)
            tx.change(_INSERT if row is None else _UPDATE, _values(tier, summed) | {"own": tx.slot})

    @read
    def minutes(self, tx: Transaction, tier: str) -> list[Minute]:
        """Those of the last hour in which something happened, the oldest first."""
        summed: dict[int, Minute] = {}
        for row in tx.rows(_OF_TIER, of=tier, first=_first(tx)):
            summed[row.minute] = _sum(summed.get(row.minute, Minute(row.minute)), _minute(row))
        return list(summed.values())

    @read
    def latest_minutes(self, tx: Transaction, tiers: Collection[str], many: int) -> dict[Moment, Minute]:
        """The last ``many`` minutes of these tiers, as far as something happened, without the waits."""
        summed: dict[Moment, Minute] = {}
        for row in tx.rows(_OF_TIERS, tiers=sorted(tiers), first=minute_of(tx.now) - many + 1):
            key, counts = (row.tier, row.minute), Minute(row.minute, row.accepted, row.succeeded, row.failed)
            summed[key] = _sum(summed.get(key, Minute(row.minute)), counts)
        return summed

    @write
    def forget_minutes(self, tx: Transaction) -> bool:
        """Delete what is older than an hour, at most ``PAGE`` rows; True: there may be others."""
        return tx.change(_FORGET, {"first": _first(tx)}) == PAGE


def _first(tx: Transaction) -> int:
    return minute_of(tx.now) - KEPT_MINUTES + 1


def _minute(row: Row) -> Minute:
    waits = {int(at): many for at, many in json.loads(row.waits).items()}
    return Minute(row.minute, row.accepted, row.succeeded, row.failed, waits)


def _sum(one: Minute, other: Minute) -> Minute:
    waits = Counter(one.waits) + Counter(other.waits)
    return Minute(
        one.at, one.accepted + other.accepted, one.succeeded + other.succeeded, one.failed + other.failed, waits
    )


def _values(tier: str, one: Minute) -> dict[str, Any]:
    waits = json.dumps({str(at): many for at, many in sorted(one.waits.items())})
    return {f"new_{name}": getattr(one, name) for name in _COUNTS} | {"of": tier, "then": one.at, "new_waits": waits}
