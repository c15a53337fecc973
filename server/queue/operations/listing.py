"""Lists of predictions, the newest first: one owner's, a page at a time, and the latest of a tier."""

from __future__ import annotations

import heapq
from collections.abc import Collection
from itertools import islice
from operator import attrgetter

import sqlalchemy as sa

from server.queue.facts.records import Prediction
from server.queue.facts.states import Status
from server.queue.operations.intake import READ, prediction_of
from server.queue.operations.moves import bind
from server.queue.store.tables import ANONYMOUS, in_lane, literal, predictions
from server.queue.store.transactions import Operations, Transaction, read

_p = predictions.c
_owned = (_p.owner == bind("owner"), _p.owner != ANONYMOUS)  # the second so that the partial index is taken
_NEXT_TIER = sa.select(_p.tier).where(*_owned, _p.tier > bind("tier")).order_by(_p.tier).limit(1)
_newest = (_p.accepted_at.desc(), _p.seq.desc())
_SHOWN = [sa.null().label(column.name) if column is _p.results else column for column in READ]
_RANGE = (  # one range of the index predictions_listed
    sa.select(_p.seq, *_SHOWN)
    .where(*_owned, _p.tier == bind("tier"), _p.status == bind("status"), _p.accepted_at >= bind("since"))
    .where(sa.tuple_(_p.accepted_at, _p.seq) < sa.tuple_(bind("at"), bind("before")))
    .order_by(*_newest)
    .limit(bind("most"))
)
_IN_TIER = sa.select(*_SHOWN).where(_p.tier == bind("tier")).limit(bind("most"))
_LATEST = (  # each one range of an index
    _IN_TIER.where(_p.completed_at.is_not(None)).order_by(_p.completed_at.desc()),
    _IN_TIER.where(_p.status == literal(Status.LEASED)).order_by(_p.lease_until.desc()),
    *(
        _IN_TIER.where(_p.status == literal(Status.QUEUED), in_lane(canary=canary)).order_by(_p.accepted_at.desc())
        for canary in (False, True)
    ),
)
_SEQ = sa.select(_p.seq).where(_p.id == bind("id"), _p.owner == bind("owner"))
_LAST = (1 << 63) - 1  # no ``seq`` is greater
_NEVER = 1e18  # nothing is accepted so late

Shown = tuple[float, str]
"""What was shown last, after which a list goes on: when it was accepted, and its id."""


class Listing(Operations):
    """The part of the queue that shows what there is."""

    @read
    def listing(
        self,
        tx: Transaction,
        owner: str,
        limit: int,
        *,
        tiers: Collection[str] | None = None,
        statuses: Collection[Status] = tuple(Status),
        since: float = 0.0,
        after: Shown | None = None,
    ) -> list[Prediction]:
        """At most ``limit`` predictions of an owner that were accepted at ``since`` (epoch seconds) or later.

        They come in the order of their acceptance, the newest first, without their results, and begin behind ``after``.
        If that one is no longer kept, others that were accepted in the same moment may come again. ``tiers`` None: all
        in which the owner has predictions. What came without a key is in no list.
        """
        given = {"owner": owner, "since": since, "most": limit, "at": _NEVER, "before": _LAST}
        if after is not None:
            known = tx.first(_SEQ, owner=owner, id=after[1])
            given |= {"at": after[0], "before": _LAST if known is None else known.seq}
        wanted = _tiers(tx, owner) if tiers is None else sorted(set(tiers))
        ranges = [
            tx.rows(_RANGE, **given, tier=tier, status=status.value) for tier in wanted for status in set(statuses)
        ]
        merged = heapq.merge(*ranges, key=attrgetter("accepted_at", "seq"), reverse=True)
        return [prediction_of(row) for row in islice(merged, limit)]

    @read
    def latest_predictions(self, tx: Transaction, tier: str, most: int) -> list[Prediction]:
        """The latest of a tier, whosever they are, without their results; the one that was accepted last is first.

        They are chosen of those that ended last, were leased last and began to wait last.
        """
        found = [prediction_of(row) for statement in _LATEST for row in tx.rows(statement, tier=tier, most=most)]
        return sorted(found, key=attrgetter("accepted_at"), reverse=True)[:most]


def _tiers(tx: Transaction, owner: str) -> list[str]:
    """The tiers in which an owner has predictions: each is found by one step of the index."""
    found: list[str] = []
    tier = ""
    while (row := tx.first(_NEXT_TIER, owner=owner, tier=tier)) is not None:
        tier = row.tier
        found.append(tier)
    return found
