"""Predictions as their callers see them: submit, look up, cancel, and the position in the queue."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from server.queue.facts.errors import QueueBytesFull, QueueFull
from server.queue.facts.news import Available
from server.queue.facts.records import Position, Prediction, Submission
from server.queue.facts.states import FINAL, Status
from server.queue.operations.moves import MOVED, ORDER, Moves, bind
from server.queue.store.statements import Row
from server.queue.store.tables import depths, literal, predictions, waiting
from server.queue.store.transactions import Operations, Transaction, read, write

_p = predictions.c
_SHOWN = tuple(field.name for field in fields(Prediction))
_SUBMITTED = tuple(field.name for field in fields(Submission) if field.name not in ("deadline", "weight"))
READ = tuple(_p[name] for name in _SHOWN)
_GIVEN = tuple(_p[name] for name in (*_SUBMITTED, "accepted_at", "deadline_at"))
_ECHOED = tuple(column.name for column in _GIVEN if column.name in _SHOWN)
# One statement counts and inserts; how many rows it wrote tells whether there was room. Several servers on PostgreSQL
# can exceed the limits by what they insert at the same time, as they do not see each other's rows before the commit.
_DEPTH = sa.select(sa.func.sum(depths.c.queued)).where(depths.c.tier == bind("tier"))
_BYTES = sa.select(sa.func.sum(depths.c.bytes)).where(depths.c.tier == bind("tier"))
_INSERT = sa.insert(predictions).from_select(
    [_p.status, *_GIVEN],
    sa.select(literal(Status.QUEUED), *(sa.bindparam(column.name, type_=column.type) for column in _GIVEN)).where(
        sa.func.coalesce(_DEPTH.scalar_subquery(), 0) < bind("limit"),
        sa.func.coalesce(_BYTES.scalar_subquery(), 0) <= bind("most_bytes"),
    ),
)
_BY_ID = sa.select(*READ).where(_p.id == bind("id"))
_keyed = (_p.owner == bind("owner"), _p.idempotency_key == bind("key"))
_KEY_USED = sa.select(sa.literal(1)).where(*_keyed).limit(1)
_BY_KEY = sa.select(*READ).where(*_keyed, _p.fingerprint == bind("fingerprint"))
_AMONG = sa.select(_p.id).where(_p.id.in_(sa.bindparam("ids", expanding=True)))
_ALIVE, _ENDED = _AMONG.where(_p.completed_at.is_(None)), _AMONG.where(_p.completed_at.is_not(None))
# FOR UPDATE, here and elsewhere, keeps other servers on PostgreSQL from moving the row before this transaction does.
# SQLAlchemy leaves it out for SQLite, which has one writer.
_LIVE = sa.select(*MOVED).where(_p.id == bind("id")).with_for_update()
_queue = (_p.tier == bind("tier"), _p.status == literal(Status.QUEUED))
_OLDEST_AFTER = (  # in the order of the queue, whose index gives the first one without a sort
    sa.select(_p.priority, _p.accepted_at).where(*_queue, _p.priority > bind("priority")).order_by(*ORDER).limit(1)
)
_POSITION = sa.select(_p.seq, _p.tier, _p.priority, _p.accepted_at, _p.status).where(_p.id == bind("id"))
# Whole seconds are counted already. The rows of its own second are counted in two parts, which SQLite takes off the
# index; a comparison of (accepted_at, seq) would cost it twice the time.
_of_tier = sa.select(sa.func.coalesce(sa.func.sum(waiting.c.queued), 0)).where(waiting.c.tier == bind("tier"))
_beside = (
    sa.select(sa.func.count()).select_from(predictions).where(*_queue, _p.priority == bind("priority")).correlate(None)
)
_AHEAD = sa.select(
    _of_tier.where(waiting.c.priority < bind("priority")).scalar_subquery()
    + _of_tier.where(waiting.c.priority == bind("priority"), waiting.c.second < bind("second")).scalar_subquery()
    + _beside.where(_p.accepted_at >= bind("since"), _p.accepted_at < bind("accepted_at")).scalar_subquery()
    + _beside.where(_p.accepted_at == bind("accepted_at"), _p.seq < bind("seq")).scalar_subquery()
)
UNLIMITED = 1 << 62
IDS_PAGE = 500  # ids that one statement names: databases bound how many values it may have


def prediction_of(row: Row) -> Prediction:
    """A reader's view of a row with the columns ``READ``."""
    columns = row._asdict()
    values = {name: columns[name] for name in _SHOWN}
    values["status"] = Status(row.status)
    for name in ("results", "error"):
        if values[name] is not None:
            values[name] = json.loads(values[name])
    return Prediction(**values)


def _sum(tx: Transaction, statement: sa.Select[Any], tier: str) -> int:
    found = tx.first(statement, tier=tier)
    return int(found[0] or 0) if found else 0


def oldest(tx: Transaction, tier: str) -> float | None:
    """When the oldest waiting prediction of a tier was accepted.

    It is the first of some priority: each of these is found by one step of the index of the queue.
    """
    found: list[float] = []
    priority = -(1 << 31)  # no INTEGER of the column is smaller
    while (row := tx.first(_OLDEST_AFTER, tier=tier, priority=priority)) is not None:
        priority = row.priority
        found.append(row.accepted_at)
    return min(found, default=None)


class Intake(Operations):
    """The part of the queue that callers use."""

    @write
    def submit(
        self, tx: Transaction, submission: Submission, limit: int, limit_bytes: int = UNLIMITED
    ) -> tuple[Prediction, bool]:
        """Queue a prediction, unless ``limit`` already wait in its tier; return it and True.

        With it, the pictures of the tier's live predictions take ``limit_bytes`` at most.

        If the owner has used the idempotency key with the same fingerprint before, in whatever tier, return that
        prediction and False. Raises ``QueueFull``, ``QueueBytesFull``, ``Conflict`` for an id that is there.
        """
        if submission.idempotency_key is not None:
            known = _by_key(tx, submission.owner, submission.idempotency_key, submission.fingerprint)
            if known is not None:
                return known, False
        values: dict[str, Any] = {name: getattr(submission, name) for name in _SUBMITTED}
        values["accepted_at"], values["deadline_at"] = tx.now, tx.now + submission.deadline
        if tx.change(_INSERT, values | {"limit": limit, "most_bytes": limit_bytes - submission.size}) == 0:
            depth = _sum(tx, _DEPTH, submission.tier)
            if depth >= limit:
                raise QueueFull(submission.tier, depth, limit, oldest(tx, submission.tier))
            raise QueueBytesFull(submission.tier, _sum(tx, _BYTES, submission.tier), limit_bytes)
        tx.tell(Available(submission.tier))
        return Prediction(status=Status.QUEUED, **{name: values[name] for name in _ECHOED}), True

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
        row = tx.first(_POSITION, id=prediction_id)
        if row is None or row.status != Status.QUEUED:
            return None
        second = math.floor(row.accepted_at)
        place = {"tier": row.tier, "priority": row.priority, "accepted_at": row.accepted_at, "seq": row.seq}
        ((ahead,),) = tx.rows(_AHEAD, **place, second=second, since=float(second))
        return Position(position=int(ahead) + 1, ahead=int(ahead))


def _found(tx: Transaction, statement: sa.Select[Any], ids: Iterable[str]) -> set[str]:
    """The ids that a SELECT of some ids finds, asked for page by page."""
    wanted = list(ids)
    pages = (wanted[start : start + IDS_PAGE] for start in range(0, len(wanted), IDS_PAGE))
    return {row.id for page in pages for row in tx.rows(statement, ids=page)}


def _by_key(tx: Transaction, owner: str, key: str, fingerprint: str | None) -> Prediction | None:
    row = tx.first(_BY_KEY, owner=owner, key=key, fingerprint=fingerprint)
    return None if row is None else prediction_of(row)
