"""Callers share a tier by weight: start-time fair queueing (Goyal, Vin and Cheng, 1996), clocked by the queue itself.

A tier has reached the turn of what was leased last. A new prediction starts where its caller's last one finishes, or,
if the tier has reached that already, one turn after the one that it has reached. It finishes as many turns later as it
has images, divided by the caller's weight. Its turn is the whole part of its start, and never changes. One turn after,
because in the turn that is being served an endless row of new callers could keep everybody waiting who stands in a
later one.

On PostgreSQL each session writes only the row of its own slot, or the commits of several servers would wait for each
other, in opposite orders. ``finish`` of a row is where the next prediction of this caller starts by what the session
has seen. The latest of all rows misses what was committed at the same time. So ``spent`` is what the session has added
so far, and ``seen`` what all others had added when it last looked: what they have added since comes on top. A caller
that submits to several servers at once has one share.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from server.queue.operations.moves import bind
from server.queue.store.tables import depths, shares
from server.queue.store.transactions import Transaction

_s = shares.c
_mine = _s.slot == bind("slot")
_depth = (
    sa.select(
        sa.func.coalesce(sa.func.sum(depths.c.queued), 0).label("queued"),
        sa.func.coalesce(sa.func.sum(depths.c.bytes), 0).label("bytes"),
        sa.func.coalesce(sa.func.max(depths.c.turn), 0).label("reached"),
    )
    .where(depths.c.tier == bind("tier"))
    .subquery()
)
_share = (
    sa.select(
        sa.func.max(_s.finish).label("latest"),
        sa.func.max(sa.case((_mine, _s.finish))).label("finish"),
        sa.func.max(sa.case((_mine, _s.seen))).label("seen"),
        sa.func.coalesce(sa.func.sum(sa.case((_mine, 0.0), else_=_s.spent)), 0.0).label("others"),
    )
    .where(_s.tier == bind("tier"), _s.caller == bind("caller"))
    .subquery()
)
_STANDING = sa.select(*_depth.c, *_share.c).select_from(_depth.join(_share, sa.true()))
_CHARGE = (
    sa.update(shares)
    .where(_s.tier == bind("of"), _s.caller == bind("by"), _s.slot == bind("own"))
    .values(
        # CASE, as the two databases have different names for the larger of two values.
        finish=sa.case((_s.finish > bind("start"), _s.finish), else_=bind("start")) + bind("cost"),
        spent=_s.spent + bind("cost"),
        seen=bind("others"),
        used_at=bind("now"),
    )
)
_FIRST_CHARGE = sa.insert(shares).values(
    tier=bind("of"),
    caller=bind("by"),
    slot=bind("own"),
    finish=bind("finish"),
    spent=bind("cost"),
    seen=bind("others"),
    used_at=bind("now"),
)
_REACHED = sa.select(sa.func.coalesce(sa.func.max(depths.c.turn), 0)).where(depths.c.tier == bind("tier"))
_REACH = sa.update(depths).where(depths.c.tier == bind("of"), depths.c.slot == bind("own")).values(turn=bind("now_at"))
_FIRST_REACH = sa.insert(depths).values(
    tier=bind("of"), slot=bind("own"), queued=0, leased=0, bytes=0, turn=bind("now_at")
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How deep a tier is, which turn it has reached, and where the next prediction of one caller starts.

    ``others`` is what other sessions have added for this caller; ``charged``: this session has added something, too.
    """

    queued: int
    bytes: int
    reached: int
    finish: float
    others: float
    charged: bool

    @property
    def start(self) -> float:
        """Where the caller's next prediction starts."""
        return self.finish if self.finish > self.reached else self.reached + 1.0


def standing(tx: Transaction, tier: str, caller: str) -> Standing:
    """How a tier stands, and a caller in it."""
    (row,) = tx.rows(_STANDING, tier=tier, caller=caller, slot=tx.slot)
    charged = row.finish is not None
    finish = row.latest or 0.0
    if charged and row.finish > row.reached:  # otherwise, what others have added may be worked off
        finish = max(finish, row.finish + row.others - row.seen)
    return Standing(int(row.queued), int(row.bytes), int(row.reached), finish, row.others, charged)


def charge(tx: Transaction, tier: str, caller: str, at: Standing, start: float, cost: float) -> float:
    """A prediction of a caller starts at ``start``; answers where it finishes, and the next one starts."""
    values = {"of": tier, "by": caller, "own": tx.slot, "others": at.others, "now": tx.now, "cost": cost}
    finish = start + cost
    if not at.charged or tx.change(_CHARGE, values | {"start": start}) == 0:  # 0: it was swept meanwhile
        tx.change(_FIRST_CHARGE, values | {"finish": finish})
    return finish


def reach(tx: Transaction, tier: str, turn: int) -> int:
    """A tier has reached ``turn``, if not a later one; answers which."""
    ((reached,),) = tx.rows(_REACHED, tier=tier)
    if turn <= reached:
        return int(reached)
    values = {"of": tier, "own": tx.slot, "now_at": turn}
    if tx.change(_REACH, values) == 0:
        tx.change(_FIRST_REACH, values)
    return turn
