"""Predictions that come into the table after they were accepted: while they wait, are worked on, or have ended."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from server.queue.facts.news import AttemptLost, Available
from server.queue.facts.records import Arrival, Completion, Kept, Prediction, Submission
from server.queue.facts.states import Status
from server.queue.operations.leases import HOLDER
from server.queue.operations.moves import error_text, fate
from server.queue.operations.shares import charge, standing
from server.queue.store.tables import predictions
from server.queue.store.transactions import Operations, Transaction, write

JOB_OVER = "its worker's Job is over"

_p = predictions.c
_SUBMITTED = tuple(field.name for field in fields(Submission) if field.name not in ("deadline", "weight"))
_BLANK: dict[str, Any] = {
    **dict.fromkeys(("started_at", "completed_at", "job", "token", "lease_until", "results", "error", "predict_ms")),
    "attempts": 0,
    "solo": False,
    "lost_tokens": "",
    "reason": "",
}
_COLUMNS = (*_SUBMITTED, "turn", "status", "accepted_at", "deadline_at", *_BLANK)
_INSERT = sa.insert(predictions).values({name: sa.bindparam(name, type_=_p[name].type) for name in _COLUMNS})
_SHOWN = tuple(field.name for field in fields(Prediction))


class Arrivals(Operations):
    """The part of the queue that a lobby uses. Ids are new, and there are no idempotency keys."""

    @write
    def settle(self, tx: Transaction, ended: Sequence[tuple[Arrival, Completion]]) -> list[Prediction]:
        """Store predictions that have ended, each with its only lease; the answer has them in this order.

        Nobody's share is charged with them.
        """
        rows = [_final(arrival, completion, tx.now) for arrival, completion in ended]
        tx.change(_INSERT, rows)
        return [
            _prediction(row, completion.results, completion.error)
            for row, (_, completion) in zip(rows, ended, strict=True)
        ]

    @write
    def keep(
        self,
        tx: Transaction,
        arrival: Arrival,
        attempts: int,
        seconds: float,
        lost: str = "",
        *,
        paid: bool = False,
    ) -> Kept:
        """Store a prediction that waits or, if it is held, is leased for ``seconds`` at most.

        ``lost`` says how the lease that held it was lost. It is lost, too, if its Job is over. The prediction then
        waits to be leased alone, or ends after ``attempts``. Its caller's share is charged with it, unless that is
        ``paid``: the caller's later predictions were.
        """
        row = {**_row(arrival), "status": Status.QUEUED.value}
        if hold := arrival.hold:
            if not lost and tx.first(HOLDER, job=hold.job) is None:
                lost = JOB_OVER
            row |= {"attempts": 1, "started_at": hold.started_at}
            if lost:
                tx.tell(AttemptLost(row["id"], lost, row["request_id"], row["trace"]))
                row |= _lost(row, hold.token, lost, attempts, tx.now)
            else:
                until = min(tx.now + seconds, row["deadline_at"])
                row |= {"status": Status.LEASED.value, "job": hold.job, "token": hold.token, "lease_until": until}
        tx.change(_INSERT, row)
        if row["status"] == Status.QUEUED:
            tx.tell(Available(arrival.submission.tier))
        prediction = _prediction(row, None, json.loads(row["error"]) if row["error"] else None)
        return Kept(prediction, _finish(tx, arrival, paid=paid))


def _finish(tx: Transaction, arrival: Arrival, *, paid: bool) -> float:
    one = arrival.submission
    if paid:
        return arrival.start + one.cost
    at = standing(tx, one.tier, one.caller)
    return charge(tx, one.tier, one.caller, at, max(at.finish, arrival.start), one.cost)


def _row(arrival: Arrival) -> dict[str, Any]:
    submission = arrival.submission
    given = {name: getattr(submission, name) for name in _SUBMITTED}
    at = arrival.accepted_at
    turn = math.floor(arrival.start)
    return {**_BLANK, **given, "turn": turn, "accepted_at": at, "deadline_at": at + submission.deadline}


def _final(arrival: Arrival, completion: Completion, now: float) -> dict[str, Any]:
    hold = arrival.hold
    assert hold is not None
    error = completion.error
    return {
        **_row(arrival),
        "status": (Status.SUCCEEDED if error is None else Status.FAILED).value,
        "model": completion.model or arrival.submission.model,
        "started_at": hold.started_at,
        "completed_at": now,
        "attempts": 1,
        "job": hold.job,
        "token": hold.token,
        "results": None if completion.results is None else json.dumps(completion.results),
        "error": None if error is None else json.dumps(error, allow_nan=False),
        "predict_ms": completion.predict_ms,
    }


def _lost(row: dict[str, Any], token: str, why: str, attempts: int, now: float) -> dict[str, Any]:
    to, code, detail = fate(now, row["deadline_at"], 1, attempts, why)
    waits = to is Status.QUEUED
    return {
        "status": to.value,
        "solo": waits,
        "lost_tokens": f"{token} ",
        "reason": why if waits else "",
        "completed_at": None if waits else now,
        "error": error_text(code, detail),
    }


def _prediction(row: dict[str, Any], results: list[Any] | None, error: dict[str, Any] | None) -> Prediction:
    shown = {name: row[name] for name in _SHOWN} | {"status": Status(row["status"]), "results": results, "error": error}
    return Prediction(**shown)
