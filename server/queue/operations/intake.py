"""Predictions as their callers see them: submit, look up, cancel, and the position in the queue."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from server.queue.facts.errors import CallerQueueBytesFull, CallerQueueFull, QueueBytesFull, QueueFull
from server.queue.facts.news import Available
from server.queue.facts.records import Position, Prediction, Submission, Submitted
from server.queue.facts.states import FINAL, Status
from server.queue.operations.moves import MOVED, Moves, bind
from server.queue.operations.shares import charge, standing
from server.queue.store.statements import Row
from server.queue.store.tables import Moment, in_lane, literal, predictions, waiting
from server.queue.store.transactions import Operations, Transaction, read, write

_p = predictions.c
_SHOWN = tuple(field.name for field in fields(Prediction))
_SUBMITTED = tuple(field.name for field in fields(Submission) if field.name not in ("deadline", "weight"))
READ = tuple(_p[name] for name in _SHOWN)
_GIVEN = tuple(_p[name] for name in (*_SUBMITTED, "turn", "accepted_at", "deadline_at"))
_ECHOED = tuple(column.name for column in _GIVEN if column.name in _SHOWN)
_INSERT = sa.insert(predictions).values(
    {
        "status": literal(Status.QUEUED),
        **{column.name: sa.bindparam(column.name, type_=column.type) for column in _GIVEN},
    }
)
_BY_ID = sa.select(*READ).where(_p.id == bind("id"))
_keyed = (_p.owner == bind("owner"), _p.idempotency_key == bind("key"))
_KEY_USED = sa.select(sa.literal(1)).where(*_keyed).limit(1)
_BY_KEY = sa.select(*READ).where(*_keyed, _p.fingerprint == bind("fingerprint"))
_BY_IDS = sa.select(*READ).where(_p.id.in_(sa.bindparam("ids", expanding=True)))
_AMONG = sa.select(_p.id).where(_p.id.in_(sa.bindparam("ids", expanding=True)))
_ALIVE, _ENDED = _AMONG.where(_p.completed_at.is_(None)), _AMONG.where(_p.completed_at.is_not(None))
# FOR UPDATE, here and elsewhere, keeps other servers on PostgreSQL from moving the row before this transaction does.
# SQLAlchemy leaves it out for SQLite, which has one writer.
_LIVE = sa.select(*MOVED).where(_p.id == bind("id")).with_for_update()
_queue = (_p.tier == bind("tier"), _p.status == literal(Status.QUEUED))
_OLDEST = {
    canary: sa.select(_p.accepted_at).where(*_queue, in_lane(canary=canary)).order_by(_p.accepted_at).limit(1)
    for canary in (False, True)
}
_its_own = sa.select(_p.size).where(*_queue, _p.caller == bind("caller")).limit(bind("most")).subquery()
_OF_CALLER = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_its_own.c.size), 0))
UNLIMITED = 1 << 62
BLOCK_BITS, MOMENTS = 10, 16.0  # what the triggers count together: turns, and moments of a second
IDS_PAGE = 500  # ids that one statement names: databases bound how many values it may have
# Blocks of turns, turns and moments are counted already. The rows of its own turn and moment are counted in two
# parts, which SQLite takes off the index; a comparison of (accepted_at, seq) would cost it twice the time.
_w = waiting.c
_asked = predictions.alias("asked")
_a = _asked.c
_bits = sa.literal_column(str(BLOCK_BITS), sa.Integer)  # bound it would be a bigint: no such shift
_block, _moment = _a.turn.bitwise_rshift(_bits), Moment(_a.accepted_at)
_counted = sa.select(sa.func.coalesce(sa.func.sum(_w.queued), 0)).where(_w.tier == _a.tier)
# Literally, so that PostgreSQL knows how few rows of a level there are without planning the statement each time.
_level = [_w.level == sa.literal_column(str(level), sa.Integer) for level in range(3)]
_equal = _w.priority == _a.priority
_beside = (
    sa.select(sa.func.count())
    .select_from(predictions)
    # Both lanes, named because the index has them before the priority.
    .where(_p.tier == _a.tier, _p.status == literal(Status.QUEUED), _p.canary.in_([sa.false(), sa.true()]))
    .where(_p.priority == _a.priority, _p.turn == _a.turn)
)
_ahead = (
    _counted.where(_level[0], _w.priority < _a.priority).scalar_subquery()
    + _counted.where(_level[0], _equal, _w.turn < _block).scalar_subquery()
    + _counted.where(_level[1], _equal, _w.turn >= _block.bitwise_lshift(_bits), _w.turn < _a.turn).scalar_subquery()
    + _counted.where(_level[2], _equal, _w.turn == _a.turn, _w.moment < _moment).scalar_subquery()
    + _beside.where(_p.accepted_at >= _moment / MOMENTS, _p.accepted_at < _a.accepted_at).scalar_subquery()
    + _beside.where(_p.accepted_at == _a.accepted_at, _p.seq < _a.seq).scalar_subquery()
)
_POSITIONS = sa.select(_a.id, _ahead.label("ahead")).where(
    _a.id.in_(sa.bindparam("ids", expanding=True)), _a.status == literal(Status.QUEUED)
)


def prediction_of(row: Row) -> Prediction:
    """A reader's view of a row with the columns ``READ``."""
    columns = row._asdict()
    values = {name: columns[name] for name in _SHOWN}
    values["status"] = Status(row.status)
    for name in ("results", "error"):
        if values[name] is not None:
            values[name] = json.loads(values[name])
    return Prediction(**values)


def oldest(tx: Transaction, tier: str, *, canary: bool) -> float | None:
    """When the oldest waiting prediction of a lane of a tier was accepted."""
    row = tx.first(_OLDEST[canary], tier=tier)
    return None if row is None else float(row.accepted_at)


def oldest_of(*moments: float | None) -> float | None:
    """The earliest of the moments that there are."""
    return min((moment for moment in moments if moment is not None), default=None)


class Intake(Operations):
    """The part of the queue that callers use."""

    @write
    def submit(
        self,
        tx: Transaction,
        submission: Submission,
        limit: int,
        limit_bytes: int = UNLIMITED,
        floor: float = 0.0,
        most_queued: int | None = None,
        most_bytes_queued: int | None = None,
    ) -> Submitted:
        """Queue a prediction, unless ``limit`` already wait in its tier.

        With it, the pictures of the tier's live predictions take ``limit_bytes`` at most. Of its caller's predictions,
        ``most_queued`` may wait in the tier, and their pictures may take ``most_bytes_queued``; None: no such limit.
        It starts at ``floor`` at the earliest, where the caller's predictions finish that are not in the table.

        If the owner has used the idempotency key with the same fingerprint before, in whatever tier, that prediction
        is the answer. Raises ``QueueFull``, ``QueueBytesFull``, ``CallerQueueFull``, ``CallerQueueBytesFull``,
        ``Conflict`` for an id that is there. Several servers on PostgreSQL can exceed the limits by what they insert
        at the same time, as they do not see each other's rows before the commit.
        """
        if submission.idempotency_key is not None:
            known = _by_key(tx, submission.owner, submission.idempotency_key, submission.fingerprint)
            if known is not None:
                return Submitted(known, new=False)
        tier, caller = submission.tier, submission.caller
        at = standing(tx, tier, caller)
        if at.queued >= limit:
            since = oldest_of(*(oldest(tx, tier, canary=canary) for canary in (False, True)))
            raise QueueFull(tier, at.queued, limit, since)
        if at.bytes + submission.size > limit_bytes:
            raise QueueBytesFull(tier, at.bytes, limit_bytes)
        if most_queued is not None or most_bytes_queued is not None:
            _bound_caller(tx, submission, limit, most_queued, most_bytes_queued)
        start = max(at.start, floor)
        values: dict[str, Any] = {name: getattr(submission, name) for name in _SUBMITTED}
        values["turn"] = math.floor(start)
        values["accepted_at"], values["deadline_at"] = tx.now, tx.now + submission.deadline
        tx.change(_INSERT, values)
        finish = charge(tx, tier, caller, at, start, submission.cost)
        tx.tell(Available(tier))
        prediction = Prediction(status=Status.QUEUED, **{name: values[name] for name in _ECHOED})
        return Submitted(prediction, new=True, finish=finish)

    @read
    def find_key(self, tx: Transaction, owner: str, key: str, fingerprint: str) -> Prediction | None:
        """The prediction that this owner's idempotency key stands for with this fingerprint."""
        return _by_key(tx, owner, key, fingerprint)

    @read
    def key_used(self, tx: Transaction, owner: str, key: str) -> bool:
        """Whether this owner has used the idempotency key, with whatever fingerprint."""
        return tx.first(_KEY_USED, owner=owner, key=key) is not None

    @read
    def get(self, tx: Transaction, prediction_id: str) -> Prediction | None:
        """One prediction."""
        row = tx.first(_BY_ID, id=prediction_id)
        return None if row is None else prediction_of(row)

    @read
    def alive(self, tx: Transaction, ids: Iterable[str]) -> set[str]:
        """Which of these ids are predictions that have not ended."""
        return _found(tx, _ALIVE, ids)

    @read
    def ended(self, tx: Transaction, ids: Iterable[str]) -> set[str]:
        """Which of these ids have a row in a final state."""
        return _found(tx, _ENDED, ids)

    @write
    def cancel(self, tx: Transaction, prediction_id: str) -> Prediction | None:
        """End a prediction that is still alive; a final one stays as it is. None: there is none."""
        row = tx.first(_LIVE, id=prediction_id)
        if row is not None and row.status not in FINAL:
            moves = Moves(tx)
            moves.end(row, Status.CANCELED)
            moves.run()
        row = tx.first(_BY_ID, id=prediction_id)
        return None if row is None else prediction_of(row)

    @read
    def position(self, tx: Transaction, prediction_id: str) -> Position | None:
        """Where a prediction waits; None when it does not wait (any more)."""
        return _positions(tx, [prediction_id]).get(prediction_id)

    @read
    def whereabouts(self, tx: Transaction, ids: Collection[str]) -> dict[str, tuple[Prediction, Position | None]]:
        """Of these ids, at most ``IDS_PAGE``, the predictions that there are, and where those wait that wait."""
        found = [prediction_of(row) for row in tx.rows(_BY_IDS, ids=list(ids))] if ids else []
        positions = _positions(tx, [one.id for one in found if one.status is Status.QUEUED])
        return {one.id: (one, positions.get(one.id)) for one in found}


def _positions(tx: Transaction, ids: Sequence[str]) -> dict[str, Position]:
    """Where those of these predictions wait that wait."""
    rows = tx.rows(_POSITIONS, ids=list(ids)) if ids else []
    return {row.id: Position(position=int(row.ahead) + 1, ahead=int(row.ahead)) for row in rows}


def _bound_caller(
    tx: Transaction, submission: Submission, limit: int, most_queued: int | None, most_bytes_queued: int | None
) -> None:
    """Refuse a prediction that its caller may not add to those that wait; no more of them are read than may wait."""
    most = limit if most_queued is None else max(0, min(limit, most_queued))
    ((depth, taken),) = tx.rows(_OF_CALLER, tier=submission.tier, caller=submission.caller, most=most)
    if most_queued is not None and depth >= most_queued:
        raise CallerQueueFull(submission.caller, depth, most_queued)
    if most_bytes_queued is not None and taken + submission.size > most_bytes_queued:
        raise CallerQueueBytesFull(submission.caller, int(taken), most_bytes_queued)


def _found(tx: Transaction, statement: sa.Select[Any], ids: Iterable[str]) -> set[str]:
    """The ids that a SELECT of some ids finds, asked for page by page."""
    wanted = list(ids)
    pages = (wanted[start : start + IDS_PAGE] for start in range(0, len(wanted), IDS_PAGE))
    return {row.id for page in pages for row in tx.rows(statement, ids=page)}


def _by_key(tx: Transaction, owner: str, key: str, fingerprint: str | None) -> Prediction | None:
    row = tx.first(_BY_KEY, owner=owner, key=key, fingerprint=fingerprint)
    return None if row is None else prediction_of(row)
