"""The Jobs. Each is stored before it is started, so that every worker that asks for work is known."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter

import sqlalchemy as sa

from server.queue.facts.jobs import JobRecord, JobRow, Strikes
from server.queue.facts.news import JobRecalled
from server.queue.facts.records import ATTEMPTS, Reclaimed
from server.queue.facts.states import Status
from server.queue.operations.moves import HAND_BACK, LOST, Moves, bind
from server.queue.operations.upkeep import reclaimed
from server.queue.store.tables import jobs, literal, predictions
from server.queue.store.transactions import Operations, Transaction, read, write

REASON_CHARACTERS = 1000
RECALL_CHARACTERS = 500  # with the rest of its notice, and as JSON of 12 bytes each, they fit into one notification
STRIKES_READ = 100  # latest ended Jobs that are looked at: no breaker counts further

_p, _j = predictions.c, jobs.c
_LIVE = sa.select(*(_j[field.name] for field in fields(JobRow))).where(_j.ended_at.is_(None)).order_by(_j.opened_at)
_holds = (
    sa.select(sa.func.count())
    .where(_p.job == _j.name, _p.status == literal(Status.LEASED))
    .correlate(jobs)
    .scalar_subquery()
)
_LOADS = _LIVE.add_columns(_holds.label("held"))
_given = [_j.name, _j.tier, _j.run, _j.model, _j.opened_at]
# One statement looks and inserts; how many rows it wrote tells whether the name was free. An INSERT that the tables
# refuse would undo the whole transaction, which other operations share.
_OPEN = sa.insert(jobs).from_select(
    [*_given, _j.reason, _j.blamed],
    sa.select(*(sa.bindparam(column.name, type_=column.type) for column in _given), sa.literal(""), sa.false()).where(
        ~sa.exists().where(_j.name == bind("name"))
    ),
)
_END = (
    sa.update(jobs)
    .where(_j.name == bind("job"), _j.ended_at.is_(None))
    # The reason for which its worker was recalled stays, unless there is another one.
    .values(
        ended_at=bind("now"), reason=sa.case((bind("why") != "", bind("why")), else_=_j.reason), blamed=bind("blame")
    )
)
_GIVE_UP = _END.where(sa.func.coalesce(_j.heard_at, 0.0) <= bind("before"))
_RECALL = (
    sa.update(jobs)
    .where(_j.name == bind("job"), _j.ended_at.is_(None), _j.recalled_at.is_(None))
    .values(recalled_at=bind("now"), reason=bind("why"))
)
_TIER = sa.select(_j.tier).where(_j.name == bind("job"))
_RECALLED = sa.select(_j.name, _j.reason).where(_j.ended_at.is_(None), _j.recalled_at.is_not(None))
_HELD = sa.select(*LOST).where(_p.job == bind("job"), _p.status == literal(Status.LEASED)).with_for_update()
_ENDED = (
    sa.select(_j.ended_at, _j.leased_at, _j.blamed, _j.reason)
    .where(_j.tier == bind("tier"), _j.ended_at.is_not(None))
    .order_by(_j.ended_at.desc())
    .limit(STRIKES_READ)
)
_LATEST = (
    sa.select(*(_j[field.name] for field in fields(JobRecord)))
    .where(_j.tier == bind("tier"), _j.ended_at.is_not(None))
    .order_by(_j.ended_at.desc())
    .limit(bind("most"))
)
_LAST_LEASE = sa.select(sa.func.max(_j.leased_at)).where(_j.tier == bind("tier"), _j.ended_at.is_(None))
_of_model = _j.model == bind("model")
_ENDED_OF_MODEL, _LAST_LEASE_OF_MODEL = _ENDED.where(_of_model), _LAST_LEASE.where(_of_model)


class Jobs(Operations):
    """The part of the queue that knows which Jobs there are."""

    @write
    def open_job(self, tx: Transaction, name: str, tier: str, run: str, model: str = "") -> bool:
        """Store a Job before it is started; False: one of that name is known already, and stays as it is.

        ``model`` is the ``Served.key`` of what its worker runs.
        """
        given = {"name": name, "tier": tier, "run": run, "model": model, "opened_at": tx.now}
        return tx.change(_OPEN, given) == 1

    @write
    def end_job(
        self, tx: Transaction, name: str, reason: str, *, blame: bool = True, attempts: int = ATTEMPTS
    ) -> Reclaimed:
        """A Job is over: what it still holds waits again at once, or fails after ``attempts``, for ``reason``.

        ``blame=False`` (drained, preempted, or gone well): no attempt is counted, nothing has to go alone, and the Job
        is no strike. Ending a Job twice, or one that is not known, changes nothing.
        """
        why = _text(reason)
        tx.change(_END, {"job": name, "now": tx.now, "why": why, "blame": blame})
        return _take_back(tx, name, why, blame=blame, attempts=attempts)

    @write
    def give_up_job(self, tx: Transaction, name: str, unheard: float, reason: str, *, attempts: int = ATTEMPTS) -> bool:
        """End a Job to its blame, unless it was heard of within so many seconds after all; whether it was ended."""
        why = _text(reason)
        values = {"job": name, "now": tx.now, "why": why, "blame": True, "before": tx.now - unheard}
        if tx.change(_GIVE_UP, values) == 0:
            return False
        _take_back(tx, name, why, blame=True, attempts=attempts)
        return True

    @write
    def recall_job(self, tx: Transaction, name: str, reason: str) -> bool:
        """Recall the worker of a Job; False: the Job has ended, or its worker was recalled before.

        The servers hear ``JobRecalled``. What the worker holds stays with it until it hands that back or in.
        """
        why = _text(reason)[:RECALL_CHARACTERS]
        if tx.change(_RECALL, {"job": name, "now": tx.now, "why": why}) == 0:
            return False
        ((tier,),) = tx.rows(_TIER, job=name)
        tx.tell(JobRecalled(name, tier, why))
        return True

    @read
    def recalled(self, tx: Transaction) -> dict[str, str]:
        """The Jobs that are not over and whose workers were recalled, each with the reason."""
        return {row.name: row.reason for row in tx.rows(_RECALLED)}

    @read
    def jobs(self, tx: Transaction) -> list[JobRow]:
        """The Jobs that are not over, oldest first."""
        return [JobRow(**row._asdict()) for row in tx.rows(_LIVE)]

    @read
    def loads(self, tx: Transaction) -> list[tuple[JobRow, int]]:
        """The Jobs that are not over, oldest first, each with how many predictions of the table it holds."""
        rows = [row._asdict() for row in tx.rows(_LOADS)]
        return [(JobRow(**{name: value for name, value in row.items() if name != "held"}), row["held"]) for row in rows]

    @read
    def latest_jobs(self, tx: Transaction, tier: str, most: int) -> list[JobRecord]:
        """The latest of a tier, also those that are over, as long as they are known; the newest first."""
        rows = [row for row in tx.rows(_LIVE) if row.tier == tier]
        live = [JobRecord(row.name, row.model, row.opened_at, reason=row.reason) for row in rows]
        over = [JobRecord(**row._asdict()) for row in tx.rows(_LATEST, tier=tier, most=most)]
        return sorted(live + over, key=attrgetter("opened_at"), reverse=True)[:most]

    @read
    def strikes(self, tx: Transaction, tier: str, model: str = "") -> Strikes:
        """How many of the tier's latest Jobs in a row failed without ever leasing; a lease by any Job ends the row.

        With a ``model`` (``Served.key``), only its Jobs are looked at.
        """
        given = {"tier": tier, "model": model} if model else {"tier": tier}
        last = tx.first(_LAST_LEASE_OF_MODEL if model else _LAST_LEASE, **given)
        forgiven = last[0] if last is not None and last[0] is not None else 0.0
        struck = []
        for row in tx.rows(_ENDED_OF_MODEL if model else _ENDED, **given):
            if row.leased_at is not None or row.ended_at <= forgiven:
                break
            if row.blamed:
                struck.append(row)
        if not struck:
            return Strikes(0, "", None)
        return Strikes(len(struck), struck[0].reason, struck[0].ended_at)


def _take_back(tx: Transaction, name: str, why: str, *, blame: bool, attempts: int) -> Reclaimed:
    moves = Moves(tx)
    for row in tx.rows(_HELD, job=name):
        if blame:
            moves.lose(row, attempts, why)
        else:
            moves.add(row, HAND_BACK, Status.QUEUED)
    moves.run()
    return reclaimed(moves, more=False)


def _text(reason: str) -> str:
    """Return the reason without NUL, which a worker's last line may contain and PostgreSQL's text cannot, and not long.

    A lone surrogate, which cannot be stored either, is replaced too.
    """
    printable = reason[:REASON_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return printable.encode("utf-8", "replace").decode("utf-8")
