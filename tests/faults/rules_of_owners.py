"""The judge's rules about owners: what is theirs is theirs, their keys open and close, their limits and order hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from tests.faults.case import Case, by
from tests.faults.history import Op
from tests.faults.owners import ANONYMOUS

NOT_THERE = frozenset({0, 404, 429, 500, 502, 503})  # 500 is for ``answers_are_planned`` to judge
REFUSED_WHO = frozenset({401, 403})
KEY_SECONDS = 2.0  # within which all servers know of a key, and of its end
WRITTEN_SECONDS = 1.0  # what a busy machine may take between a client's clock and the server's
OVER = 1.1
DAY_SECONDS = 86_400.0


def strangers_see_nothing(case: Case) -> Iterator[str]:
    """For everybody but its owner a prediction does not exist: nobody else sees, ends or lists it."""
    for op in case.story.did("peek", "meddle"):
        if op.status not in NOT_THERE or op.answer.get("id"):
            yield f"{op.call['owner']} asked for {op.call['id']}, of {_owner(case, op.call['id'])}: {op.do} {op.status}"
    for op in case.story.did("list"):
        if op.call["owner"] == ANONYMOUS and op.status == 200:
            yield "somebody without a key was shown a list"
        for key in op.answer.get("ids", ()):
            if case.owners.get(key, {op.call["owner"]}) != {op.call["owner"]}:
                yield f"{op.call['owner']} was shown {key} of {_owner(case, key)} in a list"


def owners_are_apart(case: Case) -> Iterator[str]:
    """No two owners get the same prediction, whatever their idempotency keys are, and each is kept as its owner's."""
    for key, names in case.owners.items():
        if len(names) > 1:
            yield f"{key} was given to {' and '.join(sorted(names))}"
    for row in (case.last_look or {}).get("rows", ()):
        if len(row) > 3 and case.owners.get(row[0], {row[3]}) != {row[3]}:
            yield f"{row[0]} of {_owner(case, row[0])} is kept as one of {row[3]}"


def lists_are_whole(case: Case) -> Iterator[str]:
    """A list shows the newest first, each once, and leaves out none that was accepted before and is still kept."""
    accepted = {key: next(op for op in tries if op.answer.get("id") == key) for key, tries in case.accepted.items()}
    for op in case.story.did("list"):
        if op.status != 200:
            continue
        shown: Sequence[str] = op.answer["ids"]
        if len(set(shown)) < len(shown):
            yield f"a list at {op.begun} shows {len(shown)} predictions, and {len(set(shown))} different ones"
        for newer, older in pairwise(shown):
            if newer in accepted and older in accepted and not case.story.run.get("clock_jumps"):
                first, then = accepted[newer], accepted[older]
                if (first.ended or 0.0) + WRITTEN_SECONDS < _first_try(case, older) and then.ended:
                    yield f"a list at {op.begun} shows {newer} before {older}, which is newer"
        yield from _left_out(case, op, shown, accepted)


def _left_out(case: Case, op: Op, shown: Sequence[str], accepted: dict[str, Op]) -> Iterator[str]:
    last = accepted.get(shown[-1]) if shown else None
    since = 0.0 if op.answer["whole"] else float("inf") if last is None else (last.ended or 0.0) + WRITTEN_SECONDS
    for key, first in accepted.items():
        mine = first.call.get("owner") == op.call["owner"] and (first.ended or 0.0) < op.begun
        young = (op.ended or op.begun) - _first_try(case, key) < case.story.run["results_seconds"] - 1
        if mine and young and _first_try(case, key) > since and key not in shown:
            yield f"the list of {op.call['owner']} at {op.begun} leaves {key} out"


def keys_open_and_close(case: Case) -> Iterator[str]:
    """A key opens from the answer that showed it until it is revoked, through every restart, and then never again."""
    issued = {str(op.answer["key"]): op for op in case.story.did("issue") if op.answer.get("key")}
    ends = by(case.story.did("revoke"), lambda op: str(op.call["key"]))
    for op in case.story.did("enter"):
        key = str(op.call["key"])
        revokes = ends.get(key, [])
        begun = min((one.begun for one in revokes), default=float("inf"))
        done = min((one.ended or 0.0 for one in revokes if one.status and one.status < 300), default=float("inf"))
        if op.status == 200 and op.begun > done + KEY_SECONDS:
            yield f"the key {key} opened at {op.begun}, and was revoked at {done}"
        known = key in issued and op.begun > (issued[key].ended or 0.0) + KEY_SECONDS
        if op.status in {*REFUSED_WHO, 429} and known and (op.ended or 0.0) < begun:
            yield f"the key {key} did not open at {op.begun}: {op.status}"
    for op in case.story.did("submit", "get", "cancel"):
        if op.call.get("owner") and op.status in REFUSED_WHO:
            yield f"{op.do} by {op.call['owner']} at {op.begun} was answered {op.status}"
    for op in case.story.did("list"):
        if op.call["owner"] != ANONYMOUS and op.status in REFUSED_WHO:
            yield f"list by {op.call['owner']} at {op.begun} was answered {op.status}"


def limits_hold(case: Case) -> Iterator[str]:
    """No owner gets more than its limits allow: in a day, and at once or in any stretch of time.

    A server that starts knows nothing of the requests of the moments before, so each start may let one burst pass.
    """
    starts = [event["at"] for event in case.story.told("life") if event["step"] == "start"]
    for owner, limits in case.story.run.get("limits", {}).items():
        mine = {key for key, names in case.owners.items() if owner in names}
        days = 2 if _midnight(case) else 1
        if len(mine) > limits["perDay"] * days:
            yield f"{owner} had {len(mine)} pictures accepted in a day; {limits['perDay']} are allowed"
        ops = [op for op in case.story.did("submit") if op.call.get("owner") == owner and op.answer.get("id")]
        yield from _bursts(owner, sorted(ops, key=lambda op: op.ended or 0.0), limits, starts)


def _bursts(owner: str, ops: Sequence[Op], limits: Mapping[str, float], starts: Sequence[float]) -> Iterator[str]:
    for index, first in enumerate(ops):
        began = first.begun
        for count, last in enumerate(ops[index:], 1):
            began, ended = min(began, last.begun), last.ended or 0.0
            bursts = 1 + sum(1 for at in starts if began <= at <= ended)
            if count > limits["burst"] * bursts + OVER * limits["perSecond"] * (ended - began) + 1:
                yield f"{owner} had {count} requests accepted in {ended - began:.2f} s"
                return


def order_is_kept(case: Case) -> Iterator[str]:
    """One's own predictions come to workers in the order in which they were accepted.

    Only stretches in which no server starts and no worker connects are judged: what was leased to a worker that lost
    its connection is not in the history.
    """
    breaks = [event["at"] for event in case.story.told("life")]
    breaks += [op.begun for op in case.story.did("open")] + [op.ended or op.begun for op in case.story.did("open")]
    leased: dict[str, Op] = {}
    for op in sorted(case.story.did("lease"), key=lambda op: op.ended or 0.0):
        for key, _, _ in op.answer.get("leases", ()):
            leased.setdefault(key, op)
    ops_of_leased = [op for op in case.story.did("submit") if op.call.get("owner") and op.answer.get("id") in leased]
    for owner, ops in by(ops_of_leased, lambda op: str(op.call["owner"])).items():
        for earlier in ops:
            got = leased[earlier.id]
            if owner == ANONYMOUS or any(earlier.begun < at < (got.ended or 0.0) for at in breaks):
                continue
            for later in ops:
                if _first_try(case, later.id) > (earlier.ended or 0.0) and (leased[later.id].ended or 0.0) < got.begun:
                    yield f"{later.id} of {owner} came to a worker before {earlier.id}"


def _owner(case: Case, key: str) -> str:
    return " and ".join(sorted(case.owners.get(key, {"somebody"})))


def _first_try(case: Case, key: str) -> float:
    """When the first request began that may have made this prediction."""
    return case.accepted[key][0].begun


def _midnight(case: Case) -> bool:
    """Whether the run went on into another day, or a fault may have moved its clock there."""
    began = float(case.story.run.get("wall", 0.0))
    last = max((op.begun for op in case.story.ops), default=0.0)
    return bool(case.story.run.get("clock_jumps")) or began // DAY_SECONDS != (began + last) // DAY_SECONDS
