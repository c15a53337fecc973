"""What callers have used of their limits in a day, summed over all servers.

Each session adds to rows of its own slot only: transactions of several servers that tell of the same callers never wait
for each other. So two servers can let in the last pictures of a day at the same moment.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from server.queue.facts.callers import Use, Used
from server.queue.facts.states import Status
from server.queue.operations.moves import bind
from server.queue.store.tables import literal, predictions, uses
from server.queue.store.transactions import Operations, Transaction, read, write

PAGE = 100  # rows that one call deletes at most

_u, _p = uses.c, predictions.c
_of_day = (_u.tier == bind("of"), _u.caller == bind("by"), _u.day == bind("on"))
_USED = sa.select(
    sa.func.coalesce(sa.func.sum(_u.requests), 0).label("requests"),
    sa.func.coalesce(sa.func.sum(_u.pictures), 0).label("pictures"),
).where(*_of_day)
_ADD = (
    sa.update(uses)
    .where(*_of_day, _u.slot == bind("own"))
    .values(
        requests=_u.requests + bind("more_requests"),
        pictures=_u.pictures + bind("more_pictures"),
        # CASE, as the two databases have different names for the larger of two values.
        until=sa.case((_u.until > bind("kept_until"), _u.until), else_=bind("kept_until")),
    )
)
_FIRST = sa.insert(uses).values(
    tier=bind("of"),
    caller=bind("by"),
    day=bind("on"),
    slot=bind("own"),
    requests=bind("more_requests"),
    pictures=bind("more_pictures"),
    until=bind("kept_until"),
)
_old = (
    sa.select(_u.tier, _u.caller, _u.day, _u.slot)
    .where(_u.until <= bind("now"))
    .order_by(_u.until)
    .limit(PAGE)
    .with_for_update(skip_locked=True)
)
_FORGET = sa.delete(uses).where(sa.tuple_(_u.tier, _u.caller, _u.day, _u.slot).in_(_old))
_waits = (_p.tier == bind("tier"), _p.caller == bind("caller"), _p.status == literal(Status.QUEUED))
_its_own = sa.select(_p.size).where(*_waits).limit(bind("most")).subquery()
_WAITING = sa.select(
    sa.func.count().label("queued"), sa.func.coalesce(sa.func.sum(_its_own.c.size), 0).label("bytes")
).select_from(_its_own)


class Uses(Operations):
    """The part of the queue that the limits of callers use."""

    @write
    def use(self, tx: Transaction, told: Sequence[Use]) -> list[Used]:
        """Add what this server has let in; answers what all servers have, for each of them."""
        return [_add(tx, one, 0) for one in told]

    @write
    def take_pictures(self, tx: Transaction, told: Use, pictures: int, limit: int) -> tuple[bool, Used]:
        """As ``use``; then add these pictures, too, unless they exceed the day's limit. Answers whether they were."""
        used = _used(tx, told)
        fits = used.pictures + told.pictures + pictures <= limit
        return fits, _add(tx, told, pictures if fits else 0)

    @read
    def waiting_of(self, tx: Transaction, tier: str, caller: str, most: int) -> tuple[int, int]:
        """How many predictions of a caller wait in the table, and their bytes; no more than ``most`` are counted."""
        ((queued, size),) = tx.rows(_WAITING, tier=tier, caller=caller, most=most)
        return int(queued), int(size)

    @write
    def forget_uses(self, tx: Transaction) -> bool:
        """Delete rows that nobody needs any more, at most ``PAGE``; True: there may be others."""
        return tx.change(_FORGET, {"now": tx.now}) == PAGE


def _used(tx: Transaction, one: Use) -> Used:
    ((requests, pictures),) = tx.rows(_USED, of=one.tier, by=one.caller, on=one.day)
    return Used(int(requests), int(pictures))


def _add(tx: Transaction, one: Use, pictures: int) -> Used:
    more = one.pictures + pictures
    if one.requests or more:
        values = {"of": one.tier, "by": one.caller, "on": one.day, "own": tx.slot, "kept_until": one.until}
        values |= {"more_requests": one.requests, "more_pictures": more}
        if tx.change(_ADD, values) == 0:
            tx.change(_FIRST, values)
    return _used(tx, one)
