"""Leases: what a worker takes, keeps, finishes or hands back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import sqlalchemy as sa

from server.queue.facts.errors import UnknownJob
from server.queue.facts.news import Available, Began, Ended
from server.queue.facts.records import ATTEMPTS, Beside, Completion, Granted, Leased, Place
from server.queue.facts.results import fault
from server.queue.facts.states import FINAL, Status
from server.queue.facts.tokens import mark, new_token
from server.queue.operations.intake import READ, oldest, prediction_of
from server.queue.operations.moves import (
    FINISH,
    HAND_BACK,
    HELD_BYTES,
    HELD_MOST,
    LEASE,
    LOST,
    MOVED,
    ORDER,
    Moves,
    bind,
)
from server.queue.operations.shares import reach
from server.queue.store.statements import Row
from server.queue.store.tables import in_lane, jobs, literal, predictions
from server.queue.store.transactions import Operations, Transaction, write

NOTHING = Beside()

_p = predictions.c
_CARRIED = tuple(field.name for field in fields(Leased) if field.name not in ("token", "attempt"))
# The lock keeps other servers, until the lease is committed, from ending the Job without seeing the new lease, and from
# leasing more to it against the rule of leasing alone. Operations that lock both the Job's row and predictions lock the
# Job's row first (``extend`` and ``end_job`` do too), or two servers could wait for each other.
HOLDER = (
    sa.select(jobs.c.tier, jobs.c.opened_at, jobs.c.asked_at)
    .where(jobs.c.name == bind("job"), jobs.c.ended_at.is_(None))
    .with_for_update()
)
_HELD = sa.select(
    sa.func.count().label("many"),
    sa.func.coalesce(sa.func.sum(_p.size), 0).label("bytes"),
    sa.func.coalesce(sa.func.sum(sa.cast(_p.solo, sa.Integer)), 0).label("solo"),
).where(_p.job == bind("job"), _p.status == literal(Status.LEASED))


def _waiting(*columns: sa.ColumnElement[Any], canary: bool) -> sa.Select[Any]:
    lane = (_p.tier == bind("tier"), in_lane(canary=canary), _p.status == literal(Status.QUEUED))
    # ``deadline_at > now`` means the same, but SQLite would then take the index of deadlines and sort all that waits.
    return sa.select(*columns).where(*lane, _p.deadline_at - bind("now") > 0).order_by(*ORDER)


_WANTED = tuple(dict.fromkeys((*LOST, *ORDER, *(_p[name] for name in _CARRIED))))
_QUEUE = {
    canary: _waiting(*_WANTED, canary=canary)
    .limit(bind("most"))
    # Rows that another server has locked are about to be leased or ended by it: to wait for them would be in vain.
    .with_for_update(skip_locked=True)
    for canary in (False, True)
}
# Without a lock, or what is only looked at would be hidden from another server that leases at the same time.
_NEXT = {canary: _waiting(_p.priority, _p.turn, _p.accepted_at, canary=canary).limit(1) for canary in (False, True)}
_FINISHING = (
    sa.select(*dict.fromkeys((*MOVED, _p.lost_tokens, *READ)))
    .where(_p.id.in_(sa.bindparam("ids", expanding=True)))
    .with_for_update()
)
_LEASED = (
    sa.select(*dict.fromkeys((*LOST, *(_p[name] for name in _CARRIED))))
    .where(_p.job == bind("job"), _p.status == literal(Status.LEASED))
    .with_for_update()
)
_ROWS = sa.select(*MOVED, _p.job).where(_p.id.in_(sa.bindparam("ids", expanding=True))).with_for_update()
_HEARD = sa.update(jobs).where(jobs.c.name == bind("job")).values(heard_at=bind("now"))
_ASKED = _HEARD.values(asked_at=sa.func.coalesce(jobs.c.asked_at, bind("now")))
_GOT = _ASKED.values(leased_at=bind("now"))
_EXTEND = (
    sa.update(predictions)
    .where(_p.seq == bind("row"), _p.token == bind("held"), _p.status == literal(Status.LEASED))
    # CASE, as the two databases have different names for the smaller of two values.
    .values(lease_until=sa.case((_p.deadline_at < bind("until"), _p.deadline_at), else_=bind("until")))
)


class Leases(Operations):
    """The part of the queue that workers use; their Jobs were opened before."""

    @write
    def lease(
        self,
        tx: Transaction,
        tier: str,
        job: str,
        most: int,
        most_bytes: int,
        seconds: float,
        *,
        beside: Beside = NOTHING,
        until: Place | None = None,
        canary: bool = False,
    ) -> Granted:
        """Take up to ``most`` predictions of one lane, ``most_bytes`` in all (but always one), for ``seconds`` at most.

        By (priority, turn, time of acceptance); nothing that stands after ``until``. The tier has then reached the turn
        of what was leased, unless that is of the canary's lane and others wait. A solo prediction (one of which a lease
        was lost) is leased alone: only to a Job that holds nothing else, ``beside`` the table too, which then gets
        nothing more until it has finished it. It is never overtaken: while it is the first in the lane, a Job that
        holds others gets nothing. A Job holds at most 64 predictions, and beyond the second at most 64 MB. Raises
        ``UnknownJob``: the worker should exit.
        """
        holder = tx.first(HOLDER, job=job)
        if holder is None or holder.tier != tier:
            raise UnknownJob(job)
        (held,) = tx.rows(_HELD, job=job)
        many, size = held.many + beside.many, int(held.bytes) + beside.bytes
        most = 0 if held.solo else max(0, min(most, HELD_MOST - many))
        queue = tx.rows(_QUEUE[canary], tier=tier, now=tx.now, most=most)
        within = [row for row in queue if until is None or _place(row) <= until]
        chosen = _choose(within, most_bytes, many, size)
        moves, leased = Moves(tx), []
        for row in chosen:
            token = new_token(job)
            end = min(tx.now + seconds, row.deadline_at)
            moves.add(row, LEASE, Status.LEASED, new_token=token, new_job=job, until=end, at=tx.now)
            carried = {name: getattr(row, name) for name in _CARRIED}
            leased.append(Leased(token=token, attempt=row.attempts + 1, **carried))
        moves.run()
        if chosen:
            tx.change(_GOT, {"job": job, "now": tx.now})
        after = queue[len(chosen)] if len(queue) > len(chosen) else tx.first(_NEXT[canary], tier=tier, now=tx.now)
        place = None if after is None else _place(after)
        if chosen and place is not None:  # the news that brought this worker woke no other one, and some work is left
            tx.tell(Available(tier))
        return Granted(leased, place, _reached(tx, tier, chosen, canary=canary))

    @write
    def take_up(
        self, tx: Transaction, tier: str, job: str, leases: Sequence[tuple[str, str]], seconds: float
    ) -> list[Leased]:
        """A worker is there (again), and holds these leases (id, token): answers those of them that it still has.

        They are prolonged, and what else was leased to its Job never reached it: it waits again, and no attempt is
        counted. Raises ``UnknownJob``.
        """
        holder = tx.first(HOLDER, job=job)
        if holder is None or holder.tier != tier:
            raise UnknownJob(job)
        tx.change(_ASKED, {"job": job, "now": tx.now})
        if holder.asked_at is None:
            tx.tell(Began(tier, max(0.0, tx.now - holder.opened_at)))
        named, moves, kept = set(leases), Moves(tx), []
        for row in tx.rows(_LEASED, job=job):
            if (row.id, row.token) in named:
                kept.append(row)
            else:
                moves.add(row, HAND_BACK, Status.QUEUED)
        moves.run()
        tx.change(_EXTEND, [{"row": row.seq, "held": row.token, "until": tx.now + seconds} for row in kept])
        return [
            Leased(token=row.token, attempt=row.attempts, **{name: getattr(row, name) for name in _CARRIED})
            for row in kept
        ]

    @write
    def got_work(self, tx: Transaction, job: str, tier: str, turn: int) -> int:
        """Note that a Job was given work that is not in the table, the latest of it of this turn of the tier.

        Answers the turn that the tier has reached.
        """
        tx.change(_GOT, {"job": job, "now": tx.now})
        return reach(tx, tier, turn)

    @write
    def extend(self, tx: Transaction, job: str, leases: Sequence[tuple[str, str]], seconds: float) -> list[str]:
        """Prolong leases (id, token) to ``seconds`` from now, but not past the deadlines; answers the ids it lost."""
        tx.change(_HEARD, {"job": job, "now": tx.now})
        rows = {row.id: row for row in tx.rows(_ROWS, ids=[key for key, _ in leases])}
        kept = [(key, token) for key, token in leases if key in rows and _holds(rows[key], job, token)]
        until = tx.now + seconds
        tx.change(_EXTEND, [{"row": rows[key].seq, "held": token, "until": until} for key, token in kept])
        return [key for key, token in leases if (key, token) not in kept]

    @write
    def complete(
        self, tx: Transaction, job: str, completions: Sequence[Completion], attempts: int = ATTEMPTS, model: str = ""
    ) -> list[str]:
        """Finish predictions; answers for each ``accepted``, ``duplicate``, ``final``, ``unknown`` or ``invalid``.

        A late result of a lost lease is accepted while the prediction is not final, also when it waits again or another
        worker has it: the work is done, whoever did it. ``duplicate``: this very lease had finished it. ``final``: it
        ended otherwise. ``unknown``: no such prediction, or never leased by this Job with this token. ``invalid``: it
        cannot be the result of this prediction, or names another model than ``model``, which is empty where the Job's
        is not known; the lease is lost, and the prediction fails after ``attempts``.
        """
        rows = {row.id: row for row in tx.rows(_FINISHING, ids=[completion.id for completion in completions])}
        moves, answers, finished, lost = Moves(tx), [], dict[str, str](), set[str]()
        for completion in completions:
            row = rows.get(completion.id)
            if row is None or not _ever_held(row, job, completion.token):
                answers.append("unknown")
            elif completion.id in finished:
                answers.append("duplicate" if finished[completion.id] == completion.token else "final")
            elif row.status in FINAL:
                answers.append("duplicate" if row.token == completion.token else "final")
            elif completion.id in lost:
                answers.append("invalid")
            elif why := fault(row, completion, text := json.dumps(completion.results), model):
                answers.append("invalid")
                if _holds(row, job, completion.token):
                    lost.add(completion.id)
                    moves.lose(row, attempts, f"its worker handed in what cannot be its result: {why}")
            else:
                _finish(tx, moves, row, job, completion, text)
                finished[completion.id] = completion.token
                answers.append("accepted")
        moves.run()
        return answers

    @write
    def release(self, tx: Transaction, job: str, leases: Sequence[tuple[str, str]]) -> int:
        """Hand leases back unused; answers how many. Each waits again where it stood, and no attempt is counted."""
        rows = {row.id: row for row in tx.rows(_ROWS, ids=[key for key, _ in leases])}
        moves = Moves(tx)
        for key in {key for key, token in leases if key in rows and _holds(rows[key], job, token)}:
            moves.add(rows[key], HAND_BACK, Status.QUEUED)
        moves.run()
        return moves.counts[Status.QUEUED]


def _reached(tx: Transaction, tier: str, leased: Sequence[Row], *, canary: bool) -> int:
    """The turn that the tier has reached with these; 0 if they say nothing of it.

    While some wait for the main model, those of the canary say nothing. Otherwise a caller whose part of the canary is
    done early would make newcomers wait for all its other predictions.
    """
    turn = max((row.turn for row in leased), default=0)
    if not canary or not leased:
        return turn
    return 0 if oldest(tx, tier, canary=False) is not None else reach(tx, tier, turn)


def _place(row: Row) -> Place:
    return row.priority, row.turn, row.accepted_at


def _choose(queue: Sequence[Row], most_bytes: int, held: int, held_bytes: int) -> list[Row]:
    """The head of the queue that one Job, which holds so many predictions and bytes, may take now."""
    if queue and queue[0].solo:
        return [] if held else [queue[0]]
    chosen: list[Row] = []
    total = 0
    for row in queue:
        total += row.size
        too_many = (chosen and total > most_bytes) or (held + len(chosen) > 1 and held_bytes + total > HELD_BYTES)
        if row.solo or too_many:
            break
        chosen.append(row)
    return chosen


def _ever_held(row: Row, job: str, token: str) -> bool:
    """Whether the Job holds the row by this token or held it once."""
    return token in (row.token, *row.lost_tokens.split()) and token.startswith(mark(job))


def _holds(row: Row, job: str, token: str) -> bool:
    return bool(row.status == Status.LEASED and row.job == job and row.token == token)


def _finish(tx: Transaction, moves: Moves, row: Row, job: str, completion: Completion, results: str) -> None:
    status = Status.SUCCEEDED if completion.error is None else Status.FAILED
    model = completion.model or row.model
    moves.add(
        row,
        FINISH,
        status,
        new_token=completion.token,
        new_job=job,
        new_results=None if completion.results is None else results,
        new_error=None if completion.error is None else json.dumps(completion.error, allow_nan=False),
        took=completion.predict_ms,
        by_model=model,
    )
    # What readers would see after FINISH, so that whoever waits for the result need not read the row.
    before = prediction_of(row)
    ended = replace(
        before,
        status=status,
        attempts=max(1, before.attempts),
        completed_at=tx.now,
        job=job,
        results=completion.results,
        error=completion.error,
        predict_ms=completion.predict_ms,
        model=model,
    )
    tx.tell(Ended(ended))
