"""Every change of a prediction's state. The statements are built once, and checked against the table of edges."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from server.queue.facts.errors import Lost
from server.queue.facts.news import AttemptLost, Available, Moved
from server.queue.facts.states import EDGES, FINAL, Status
from server.queue.facts.tokens import TOKEN_CHARACTERS
from server.queue.store.statements import Row
from server.queue.store.tables import in_lane, literal, predictions
from server.queue.store.transactions import Transaction

_p = predictions.c
# The columns that ``Moves.add`` needs.
MOVED = (_p.seq, _p.id, _p.tier, _p.canary, _p.status, _p.token, _p.solo, _p.size)
ORDER = (_p.priority, _p.turn, _p.accepted_at, _p.seq)  # of each lane of the queue of a tier
LOST = (*MOVED, _p.attempts, _p.deadline_at, _p.request_id, _p.trace)  # the columns that ``Moves.lose`` needs
# The row keeps the tokens of the last lost leases: a worker that leases and hands back for ever must not make it grow.
_LOST_KEPT = 16 * (TOKEN_CHARACTERS + 1)
# What one Job may hold: a worker that leases and never works must not keep a whole queue. Two predictions always fit,
# the one in work and the next, however large they are.
HELD_MOST, HELD_BYTES = 64, 64 * 1024 * 1024


def bind(name: str) -> sa.BindParameter[Any]:
    """A value given when the statement runs."""
    return sa.bindparam(name)


def _last(text: sa.ColumnElement[str], most: int) -> sa.ColumnElement[str]:
    """The last characters of a text."""
    length = sa.func.length(text)
    return sa.case((length > most, sa.func.substr(text, length - most + 1)), else_=text)


_LOST_TOKENS = _last(_p.lost_tokens + _p.token + " ", _LOST_KEPT)


def transition(source: Status, target: Status, **values: Any) -> sa.Update:
    """The UPDATE of one row (``:row``, and ``:held`` where it is leased) along a legal edge.

    It names the state and the token that were read, so a row that has changed since is left alone. The number of
    changed rows shows that.
    """
    if target not in EDGES[source]:
        raise ValueError(f"no prediction goes from {source} to {target}")
    statement = sa.update(predictions).where(_p.seq == bind("row"), _p.status == literal(source))
    values["status"] = literal(target)
    if source is Status.LEASED:
        statement = statement.where(_p.token == bind("held"))
        values["lease_until"] = None
        values["lost_tokens"] = _LOST_TOKENS
        values.setdefault("token", None)
    if target in FINAL:
        values["completed_at"] = bind("now")
    return statement.values(values)


LEASE = {
    (Status.QUEUED, Status.LEASED): transition(
        Status.QUEUED,
        Status.LEASED,
        attempts=_p.attempts + 1,
        token=bind("new_token"),
        job=bind("new_job"),
        lease_until=bind("until"),
        started_at=sa.func.coalesce(_p.started_at, bind("at")),
    )
}
HAND_BACK = {
    (Status.LEASED, Status.QUEUED): transition(Status.LEASED, Status.QUEUED, attempts=_p.attempts - 1, job=None)
}
LOSE = {
    # The next lease takes it alone, since it may be what killed the worker.
    (Status.LEASED, Status.QUEUED): transition(Status.LEASED, Status.QUEUED, solo=True, reason=bind("why"), job=None)
}
FINISH = {
    (source, target): transition(
        source,
        target,
        token=bind("new_token"),
        job=bind("new_job"),
        results=bind("new_results"),
        error=bind("new_error"),
        predict_ms=bind("took"),
        model=bind("by_model"),
        # At least 1: its only lease may have been handed back, which uncounts the attempt, before its result came.
        attempts=sa.case((_p.attempts < 1, 1), else_=_p.attempts),
    )
    for source in (Status.QUEUED, Status.LEASED)
    for target in (Status.SUCCEEDED, Status.FAILED)
}
END = {
    (source, target): transition(source, target, error=bind("new_error"))
    for source in (Status.QUEUED, Status.LEASED)
    for target in EDGES[source] & FINAL - {Status.SUCCEEDED}
}


def _head_is_solo(*, canary: bool) -> sa.Select[Any]:
    waits = (_p.tier == bind("tier"), in_lane(canary=canary), _p.status == literal(Status.QUEUED))
    head = sa.select(_p.solo).where(*waits).order_by(*ORDER).limit(1).subquery()
    return sa.select(sa.literal(1)).select_from(head).where(head.c.solo)


_HEAD_IS_SOLO = {canary: _head_is_solo(canary=canary) for canary in (False, True)}


def error_text(code: str, detail: str) -> str | None:
    """An error as the table has it; None without a code."""
    return json.dumps({"code": code, "detail": detail}) if code else None


def fate(now: float, deadline_at: float, attempt: int, attempts: int, why: str) -> tuple[Status, str, str]:
    """What becomes of a prediction whose lease is lost: its state, and the code and the detail of its error, if any."""
    if deadline_at <= now:
        return Status.EXPIRED, "deadline_passed", f"not done by its deadline; {why}"
    if attempt >= attempts:
        return Status.FAILED, "attempts_exhausted", f"given up after {attempt} attempts; the last: {why}"
    return Status.QUEUED, "", ""


class Moves:
    """Transitions of rows that were read in this transaction, written with one statement for each kind of them."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._rows: dict[sa.Update, list[dict[str, Any]]] = defaultdict(list)
        # The lanes of tiers in which leases ended; True if one was of a prediction that kept its Job from getting any
        # other.
        self._freed: dict[tuple[str, bool], bool] = {}
        self.counts: Counter[Status] = Counter()

    def add(self, row: Row, moves: Mapping[tuple[Status, Status], sa.Update], to: Status, **values: Any) -> None:
        """Move one row, read with the columns ``MOVED``; ``values`` are what its statement needs beyond them."""
        source = Status(row.status)
        values["row"] = row.seq
        if source is Status.LEASED:
            values["held"] = row.token
            large = row.size * HELD_MOST > HELD_BYTES
            lane = row.tier, row.canary
            self._freed[lane] = self._freed.get(lane, False) or row.solo or large
        if to in FINAL:
            values["now"] = self._tx.now
        self._rows[moves[source, to]].append(values)
        self.counts[to] += 1
        self._tx.tell(Moved(row.id, row.tier, to))
        if to is Status.QUEUED:
            self._tx.tell(Available(row.tier))

    def end(self, row: Row, to: Status, code: str = "", detail: str = "") -> None:
        """End one row by a decision of ours, not by a result; without a code it has no error."""
        self.add(row, END, to, new_error=error_text(code, detail))

    def lose(self, row: Row, attempts: int, why: str) -> None:
        """The lease of this row, read with the columns ``LOST``, is lost: it waits to be leased alone, or ends."""
        to, code, detail = fate(self._tx.now, row.deadline_at, row.attempts, attempts, why)
        self._tx.tell(AttemptLost(row.id, why, row.request_id, row.trace))
        if to is Status.QUEUED:
            self.add(row, LOSE, to, why=why)
        else:
            self.end(row, to, code, detail)

    def run(self) -> None:
        """Write them. Raises ``Lost`` if a row is no longer as it was read."""
        for statement, rows in self._rows.items():
            if self._tx.change(statement, rows) != len(rows):
                raise Lost("a prediction changed its state under a transaction")
        for (tier, canary), kept in self._freed.items():
            # The Job may now lease what a rule kept from it: any prediction, if it held a solo one or many bytes; or a
            # solo one at the head of the queue, if this was its last lease.
            if kept or self._tx.first(_HEAD_IS_SOLO[canary], tier=tier) is not None:
                self._tx.tell(Available(tier))
