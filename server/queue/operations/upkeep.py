"""What the passing of time demands: leases that ran out, deadlines that passed, removed tiers, old rows."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from server.queue.facts.news import Available
from server.queue.facts.records import Reclaimed
from server.queue.facts.states import Status
from server.queue.operations.moves import LOST, ORDER, Moves, bind
from server.queue.store.tables import in_lane, jobs, literal, predictions
from server.queue.store.transactions import Operations, Transaction, write

PAGE = 100  # rows that one call changes at most: some 5 ms of the writer's time
JOBS_KEPT = 86400.0  # seconds after its end

_p = predictions.c
_LIVE = sa.select(*LOST, _p.started_at).limit(bind("page"))
_queued, _leased = _p.status == literal(Status.QUEUED), _p.status == literal(Status.LEASED)
# Rows that another server has locked are skipped: it is changing them, and the next call finds those that still have
# run out afterwards.
_RUN_OUT = (
    _LIVE.where(_p.tier == bind("tier"), _leased, _p.lease_until <= bind("now"))
    .order_by(_p.lease_until)
    .with_for_update(skip_locked=True)
)
_OVERDUE = (
    _LIVE.where(_p.tier == bind("tier"), _queued, _p.deadline_at <= bind("now"))
    .order_by(_p.deadline_at)
    .with_for_update(skip_locked=True)
)
_WAITING = _LIVE.where(_p.tier == bind("tier"), _queued).order_by(_p.canary, *ORDER).with_for_update(skip_locked=True)
_OF_CANARY = (
    sa.select(_p.seq)
    .where(_p.tier == bind("tier"), in_lane(canary=True), _queued)
    .order_by(*ORDER)
    .limit(PAGE)
    .with_for_update(skip_locked=True)
)
_TO_MAIN = sa.update(predictions).where(_p.seq == bind("row"), _queued).values(canary=sa.false())
# The index gives one tier after another, so that rows of tiers that were removed are purged too.
_NEXT_TIER = sa.select(sa.func.min(_p.tier)).where(_p.tier > bind("tier"), _p.completed_at.is_not(None))
_OLD = (
    sa.select(_p.seq, _p.id)
    .where(_p.tier == bind("tier"), _p.completed_at <= bind("before"))
    .order_by(_p.completed_at)
    .limit(bind("page"))
    .with_for_update(skip_locked=True)
)
_DELETE = sa.delete(predictions).where(_p.seq == bind("row"), _p.completed_at.is_not(None))
_old_jobs = sa.select(jobs.c.name).where(jobs.c.ended_at <= bind("before")).order_by(jobs.c.ended_at).limit(PAGE)
_FORGET_JOBS = sa.delete(jobs).where(jobs.c.name.in_(_old_jobs))
SILENT = "its lease ran out: the worker died or stopped answering"


class Upkeep(Operations):
    """The part of the queue that the leader calls at regular times."""

    @write
    def reclaim(self, tx: Transaction, tiers: Mapping[str, int], *, leases: bool = True) -> Reclaimed:
        """Take back what ran out, in the tiers named with the attempts each allows; others are never touched.

        A lease that ran out (only with ``leases``): waits again, to be leased alone, or ends as failed after its last
        attempt. A deadline that passed: aborted if it was never started, expired otherwise. At most ``PAGE`` rows a
        call, shared by the tiers.
        """
        page = max(1, PAGE // max(1, 2 * len(tiers)))
        moves, more = Moves(tx), False
        for tier, attempts in tiers.items():
            run_out = tx.rows(_RUN_OUT, tier=tier, now=tx.now, page=page) if leases else []
            for row in run_out:
                moves.lose(row, attempts, SILENT)
            overdue = tx.rows(_OVERDUE, tier=tier, now=tx.now, page=page)
            for row in overdue:
                started = row.started_at is not None
                end, verb = (Status.EXPIRED, "done") if started else (Status.ABORTED, "started")
                moves.end(row, end, "deadline_passed", f"not {verb} by its deadline")
            more = more or page in (len(run_out), len(overdue))
        moves.run()
        return reclaimed(moves, more=more)

    @write
    def abort_tier(self, tx: Transaction, tier: str, code: str, detail: str) -> Reclaimed:
        """End what waits in a tier that is gone, and what its workers lost: aborted if never started, else failed.

        A lease that is still kept may finish. At most ``PAGE`` rows a call.
        """
        moves = Moves(tx)
        run_out = tx.rows(_RUN_OUT, tier=tier, now=tx.now, page=PAGE // 2)
        waiting = tx.rows(_WAITING, tier=tier, page=PAGE // 2)
        for row in (*run_out, *waiting):
            moves.end(row, Status.ABORTED if row.started_at is None else Status.FAILED, code, detail)
        moves.run()
        return reclaimed(moves, more=PAGE // 2 in (len(run_out), len(waiting)))

    @write
    def end_canary(self, tx: Transaction, tier: str) -> int:
        """Move predictions that wait for a tier's canary to the main model, at their places; answers how many.

        At most ``PAGE`` rows a call. What canaries hold stays of their lane, so that it can wait in it again.
        """
        rows = tx.rows(_OF_CANARY, tier=tier)
        tx.change(_TO_MAIN, [{"row": row.seq} for row in rows])
        if rows:
            tx.tell(Available(tier))
        return len(rows)

    @write
    def forget_jobs(self, tx: Transaction) -> bool:
        """Delete the rows of Jobs that ended more than a day ago, at most ``PAGE``; True: there may be others."""
        return tx.change(_FORGET_JOBS, {"before": tx.now - JOBS_KEPT}) == PAGE

    @write
    def purge(self, tx: Transaction, results: Mapping[str, float], others: float = JOBS_KEPT) -> list[str]:
        """Delete what became final more than its tier's seconds ago (``others`` for tiers not named).

        At most ``PAGE`` rows a call. Answers the ids deleted; an empty list means that nothing is left to delete.
        """
        ids: list[str] = []
        tier = ""
        while len(ids) < PAGE and (row := tx.first(_NEXT_TIER, tier=tier)) is not None and row[0] is not None:
            tier = row[0]
            before = tx.now - results.get(tier, others)
            old = tx.rows(_OLD, tier=tier, before=before, page=PAGE - len(ids))
            tx.change(_DELETE, [{"row": row.seq} for row in old])
            ids += [row.id for row in old]
        return ids


def reclaimed(moves: Moves, *, more: bool) -> Reclaimed:
    """The count of what was moved."""
    counts = moves.counts
    return Reclaimed(
        requeued=counts[Status.QUEUED],
        failed=counts[Status.FAILED],
        expired=counts[Status.EXPIRED],
        aborted=counts[Status.ABORTED],
        more=more,
    )
