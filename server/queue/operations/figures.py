"""Figures for readers: how deep the queues are, how fast they move, and what the leader last saw."""

from __future__ import annotations

import json
from dataclasses import asdict

import sqlalchemy as sa

from server.queue.facts.records import Breaker, Depth, Lane, Lending, Pace, TierView
from server.queue.facts.states import Status
from server.queue.operations.intake import oldest, oldest_of
from server.queue.operations.moves import bind
from server.queue.store.statements import Row
from server.queue.store.tables import depths, predictions, reports
from server.queue.store.transactions import Operations, Transaction, read, write
from server.settings.quantity import Usage

PACE_SAMPLE = 100
PACE_SECONDS = 3600.0
NO_TIER = ""

_p = predictions.c
_total = sa.func.sum
_SUMMED = ("queued", "leased", "bytes", "canary_queued", "canary_leased")
_DEPTHS = (
    sa.select(depths.c.tier, *(_total(depths.c[name]).label(name) for name in _SUMMED))
    .group_by(depths.c.tier)
    .order_by(depths.c.tier)
)
_LATEST = (
    sa.select(_p.predict_ms)
    .where(_p.tier == bind("tier"), _p.completed_at > bind("after"), _p.status == Status.SUCCEEDED.value)
    .order_by(_p.completed_at.desc())
    .limit(PACE_SAMPLE)
)
_told = {"view": bind("new_view"), "at": bind("now")}
_REPORT = sa.update(reports).where(reports.c.tier == bind("of")).values(_told)
_FIRST_REPORT = sa.insert(reports).values({"tier": bind("of"), **_told})
_UNREPORT = sa.delete(reports).where(reports.c.tier == bind("of"))
_REPORTS = sa.select(reports.c.tier, reports.c.view, reports.c.at).order_by(reports.c.tier)


class Figures(Operations):
    """The part of the queue that readers of its state use."""

    @read
    def depths(self, tx: Transaction) -> dict[str, Depth]:
        """How much is alive, for every tier that ever had a prediction."""
        return {row.tier: _depth(tx, row) for row in tx.rows(_DEPTHS)}

    @read
    def pace(self, tx: Transaction, tier: str) -> Pace:
        """How fast the tier was, from the last 100 successes within the last hour."""
        rows = tx.rows(_LATEST, tier=tier, after=tx.now - PACE_SECONDS)
        took = [row.predict_ms / 1000 for row in rows if row.predict_ms is not None]
        return Pace(len(rows), sorted(took)[len(took) // 2] if took else None)

    @write
    def report(self, tx: Transaction, tier: str, view: TierView) -> None:
        """Store what the leader saw of a tier, in place of what it saw before."""
        values = {"of": tier, "new_view": _text(view), "now": tx.now}
        if tx.change(_REPORT, values) == 0:
            tx.change(_FIRST_REPORT, values)

    @write
    def try_out(self, tx: Transaction) -> None:
        """Write to the disk and leave no trace, to find out whether that works. Raises ``StorageError``."""
        tx.change(_FIRST_REPORT, {"of": NO_TIER, "new_view": "{}", "now": tx.now})
        tx.change(_UNREPORT, {"of": NO_TIER})

    @read
    def views(self, tx: Transaction) -> dict[str, TierView]:
        """What the leader last saw of each tier."""
        return {row.tier: _view(row.view, row.at) for row in tx.rows(_REPORTS)}


def _depth(tx: Transaction, row: Row) -> Depth:
    main, canary = oldest(tx, row.tier, canary=False), None
    if row.canary_queued or row.canary_leased:
        canary = Lane(row.canary_queued, row.canary_leased, oldest(tx, row.tier, canary=True))
    first = main if canary is None else oldest_of(main, canary.oldest)
    return Depth(row.queued, row.leased, first, int(row.bytes), canary)


def _text(view: TierView) -> str:
    return json.dumps({name: value for name, value in asdict(view).items() if name != "seen_at"})


def _view(text: str, at: float) -> TierView:
    """Read only the fields that are known here: a server of another version may have written others."""
    told = {name: value for name, value in json.loads(text).items() if name in TierView.__slots__}
    quota = {name: Usage(of["hard"], of["used"]) for name, of in told.pop("quota", {}).items()}
    breaker, lending = told.pop("breaker", None), told.pop("lending", None)
    return TierView(
        **told,
        quota=quota,
        breaker=breaker and Breaker(**breaker),
        lending=lending and Lending(**lending),
        seen_at=at,
    )
