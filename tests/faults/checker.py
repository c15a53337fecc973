"""The judge: pure functions that find in a history what breaks a promise. Each rule is one function."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.faults.case import Case, by
from tests.faults.clients import OUTCOME_UNKNOWN
from tests.faults.history import FINAL, Op, Story
from tests.faults.rules_of_events import OF_EVENTS
from tests.faults.rules_of_lending import OF_LENDING
from tests.faults.rules_of_models import answered_by_what_is_served, model_is_told, plain_label
from tests.faults.rules_of_owners import (
    keys_open_and_close,
    limits_hold,
    lists_are_whole,
    order_is_kept,
    owners_are_apart,
    strangers_see_nothing,
)

WRITTEN_SECONDS = 1.2  # what a busy machine may take to write something down when it is time
OLD_SECONDS = 0.05  # no server starts a Job so soon after its own start, so such a Job is its predecessor's


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise, with the name of the rule that found it."""

    rule: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}"


def check(story: Story) -> list[Violation]:
    """Find every broken promise."""
    case = Case(story)
    return [Violation(rule.__name__, detail) for rule in RULES for detail in rule(case)]


def accepted_ends(case: Case) -> Iterator[str]:
    """Every accepted prediction is known in the end, and it has a final state."""
    looks = by(case.story.did("get"), lambda op: op.id)
    for key in case.accepted:
        last = next((op for op in reversed(looks.get(key, [])) if op.status), None)
        if last is not None and last.status == 404:
            yield f"{key} was accepted and is not known any more"
        elif key not in case.ends:
            yield f"{key} was accepted and had not ended when last seen"
        elif last is not None and last.status != 200 and not _forgotten(case, key, last):
            yield f"{key} was accepted, had ended, and then answered {last.status}"


def accepted_is_kept(case: Case) -> Iterator[str]:
    """Every accepted prediction is on the disk in the end, unless it is old enough to be forgotten."""
    if case.rows is not None and case.last_look is not None:
        for key in case.accepted.keys() - case.rows.keys():
            if case.last_look["at"] - case.accepted[key][0].begun < case.story.run["results_seconds"]:
                yield f"{key} was accepted, and is not on the disk"


def only_young_ones_are_forgotten(case: Case) -> Iterator[str]:
    """What a worker has held for ``lobbySeconds`` survives a kill, although its caller had no answer."""
    lives = case.story.told("life")
    for key, name in case.without_key.items():
        tries = case.submits[name]
        kill_may_lose = len(tries) == 1 and not tries[0].status and tries[0].answer.get("error") != "hung up"
        if case.rows is None or case.last_look is None or key in case.rows or not kill_may_lose:
            continue
        leased = case.last_leased[key]
        start = next((one for one in reversed(lives) if one["step"] == "start" and one["at"] < leased), None)
        end = next((one["at"] for one in lives if one["step"] == "end" and one["at"] > leased), None)
        if start is None or end is None or case.last_look["at"] - leased > case.story.run["results_seconds"]:
            continue
        if end - leased > start["lobby"] + WRITTEN_SECONDS:
            yield f"{key} had been worked on for {end - leased:.1f} s, and is not on the disk"


def ends_once(case: Case) -> Iterator[str]:
    """What is final does not change: from then on everybody sees the same state and the same results."""
    for key, ops in case.seen.items():
        end = case.ends.get(key)
        finals = {op.answer["final"] for op in ops if op.answer["state"] in FINAL}
        if len(finals) > 1:
            yield f"{key} was seen final in {len(finals)} ways"
        if end is not None and end.ended is not None:
            for op in ops:
                if op.begun > end.ended and op.answer["state"] not in FINAL:
                    yield f"{key} was {end.answer['state']} and later {op.answer['state']}"
                    break


def one_id_a_key(case: Case) -> Iterator[str]:
    """However often a request is repeated with the same key, or after a refusal, there is one prediction."""
    for key, tries in case.submits.items():
        ids = {op.id for op in tries if op.answer.get("id")}
        if case.rows is not None:
            ids |= {found for found, (of, _) in case.rows.items() if of == key}
        if len(ids) > 1:
            yield f"the key {key} has {len(ids)} predictions: {', '.join(sorted(ids))}"


def nothing_unasked(case: Case) -> Iterator[str]:
    """Each prediction comes from a request that was accepted or whose answer was lost."""
    untold = {found: key for found, (key, _) in (case.rows or {}).items() if found not in case.accepted}
    for found, key in untold.items():
        if key and key not in case.submits:
            yield f"{found} lies in the queue, and nobody asked for it"
        elif key and key not in case.in_doubt:
            yield f"{found} lies in the queue, and its client was refused"
    # Of a request without a key that no worker got, nobody can say which prediction is its own.
    nameless = sum(1 for key in untold.values() if not key)
    lost = sum(1 for key in case.in_doubt if case.submits[key][0].call.get("keyless"))
    if nameless > lost:
        yield f"{nameless} predictions without a key lie in the queue, and {lost} requests had no answer"
    for found in case.seen.keys() - case.accepted.keys():
        yield f"{found} can be read and was never accepted"


def right_result(case: Case) -> Iterator[str]:
    """A result is the right one for its picture. Without a result it ended for a reason that its client knows of."""
    labels = case.story.run["labels"]
    cancels = {op.id: op.begun for op in reversed(case.story.did("cancel"))}  # reversed, so that the first one stays
    for key, end in case.ends.items():
        first = case.accepted[key][0] if key in case.accepted else None
        if first is None:
            continue
        state, wanted = end.answer["state"], labels[first.call["picture"]]
        after = first.call.get("cancel_after")
        label = plain_label(case, end)
        if state == "succeeded" and (first.call["poison"] or label != wanted):
            yield f"{key} is a {wanted}, and was called {label}"
        if state == "failed" and not (first.call["poison"] and end.answer["error"] == "attempts_exhausted"):
            yield f"{key} failed for no good reason: {end.answer['error']}"
        if state == "canceled" and not (key in cancels and cancels[key] < (end.ended or 0.0)):
            yield f"{key} was canceled by nobody"
        if state in ("expired", "aborted") and not (after and (end.ended or 0.0) - first.begun >= float(after[:-1])):
            yield f"{key} was {state} before its time"


def right_picture(case: Case) -> Iterator[str]:
    """A worker gets exactly the bytes that the client sent."""
    sent = {key: tries[0].call["digest"] for key, tries in case.accepted.items()}
    for op in case.story.did("lease"):
        for key, _, digest in op.answer.get("leases", ()):
            if not key or (key in sent and sent[key] != digest):
                yield f"{key or 'something'} came to its worker with other bytes than it was sent with"


def honoured_once(case: Case) -> Iterator[str]:
    """Exactly one result counts, it is the one that clients see, and a forged one never counts."""
    for key, ops in case.results.items():
        accepted = [op for op in ops if op.answer.get("outcome") == "accepted"]
        if len(accepted) > 1:
            yield f"{key} had {len(accepted)} results accepted"
        yield from (f"{key} had a forged result accepted" for op in accepted if op.call["forged"])
        for op in ops:
            if op.answer.get("outcome") == "duplicate" and not any(
                other.n != op.n and other.call["token"] == op.call["token"] and other.begun < (op.ended or 0.0)
                for other in ops
            ):
                yield f"{key} had its first result called a duplicate"
        end = case.ends.get(key)
        if end is None:
            continue
        # If no result is known to be accepted, it was one whose answer was lost, or one of a real worker.
        may_count = accepted or [op for op in ops if not op.status and not op.call["forged"]]
        scores = {op.call["score"] for op in may_count} | (set() if accepted else _by_real_workers(case, key))
        if accepted and end.answer["state"] != "succeeded":
            yield f"{key} had a result accepted, and is {end.answer['state']}"
        elif end.answer["state"] == "succeeded" and end.answer.get("score") not in scores:
            yield f"{key} shows a result that was not accepted"


def held_by_one(case: Case) -> Iterator[str]:
    """While a lease lasts, no other worker gets its prediction."""
    seconds = case.story.run["lease_seconds"]
    given_up = [op for op in case.story.did("release", "complete", "spoil") if not op.call.get("forged")]
    freed = by(given_up, lambda op: str(op.call["id"]))
    opened = by(case.story.did("open"), lambda op: str(op.call["job"]))
    starts = [event["at"] for event in case.story.told("life") if event["step"] == "start"]
    first_used: dict[str, float] = {}
    for op in case.story.did("lease"):
        first_used.setdefault(op.call["job"], op.begun)
    held: dict[str, list[Op]] = defaultdict(list)
    for op in sorted(case.story.did("lease"), key=lambda op: op.ended or 0.0):
        for key, _, _ in op.answer.get("leases", ()):
            for before in held[key]:
                later = op.ended or 0.0
                let_go = any(before.begun < one.begun < later for one in freed.get(key, ()))
                # A worker that connects anew gives up what it does not name.
                let_go |= any(
                    before.begun < (one.ended or later) and one.begun < later and key not in one.call["held"]
                    for one in opened.get(before.call["job"], ())
                )
                # A new server takes back what the Jobs of its predecessor held, for they have ended with it. Such a Job
                # may have leased more in the meantime.
                restarted = any(first_used[before.call["job"]] - OLD_SECONDS < start < later for start in starts)
                # From the first request to the second answer, so that a slow machine causes no false violation.
                if later - before.begun < seconds and not let_go and not restarted:
                    yield f"{key} was leased to {before.by} and within {later - before.begun:.2f} s to {op.by}"
            held[key].append(op)


def quota_kept(case: Case) -> Iterator[str]:
    """There are never more workers than the tier's quota allows."""
    for sample in case.story.told("sample"):
        for tier, count in sample["workers"].items():
            if count > case.story.run["quota"].get(tier, count):
                yield f"{count} workers of {tier} at {sample['at']}"


def blobs_there(case: Case) -> Iterator[str]:
    """Every live prediction has its pictures, the database is sound, and its counters agree with its rows."""
    for look in case.story.told("disk"):
        yield from (f"{key} is alive at {look['at']}, and its picture is gone" for key in look["missing"])
        if look["broken"]:
            yield f"the database is broken at {look['at']}: {look['broken']}"
        if look["depths"] != look["counted"]:
            yield f"at {look['at']} counters say {look['depths']}, rows say {look['counted']}"


def nothing_grows(case: Case) -> Iterator[str]:
    """Memory, threads, descriptors, files and rows stay below the limits of the run."""
    most = case.story.run["most"]
    for name in ("rss", "threads", "fds"):
        worst = max((sample[name] for sample in case.story.told("sample")), default=0)
        if worst > most[name]:
            yield f"{name} went to {worst}; {most[name]} is allowed"
    crashes = sum(1 for event in case.story.told("life") if event["step"] == "end" and event["status"] != 0)
    unknown = sum(1 for op in case.story.did("submit") if op.answer.get("code") == OUTCOME_UNKNOWN)
    for look in case.story.told("disk")[-1:]:
        # Each crash may leave the pictures of all uploads that were under way, and so may an answer that left it open.
        left = look["orphans"] + look["stale"]
        if left > most["left_over"] + crashes * most["at_once"] + unknown:
            yield f"{left} pictures are left over after {crashes} crashes and {unknown} answers that left it open"
        if look["oldest"] > most.get("age", look["oldest"]):
            yield f"a result is kept that is {look['oldest']:.0f} s old"
        if look["logs"] > most["logs"]:
            yield f"{look['logs']} logs of Jobs are kept"
    for event in case.story.told("remains"):
        yield from (f"a process is left: {command}" for command in event["processes"])


def answers_are_planned(case: Case) -> Iterator[str]:
    """The server never answers 500: whatever happens, it knows what went wrong."""
    for op in case.story.ops:
        if op.status == 500:
            yield f"{op.do} by {op.by} at {op.begun} was answered 500 {op.answer.get('code', '')}"


def answered_in_time(case: Case) -> Iterator[str]:
    """A server that takes connections answers or ends: no client waits until its own timeout."""
    for op in case.story.ops:
        if op.answer.get("error") == "TimeoutError":
            yield f"{op.do} by {op.by} at {op.begun} was not answered for {(op.ended or 0.0) - op.begun:.0f} s"


RULES: tuple[Callable[[Case], Iterator[str]], ...] = (
    accepted_ends,
    accepted_is_kept,
    only_young_ones_are_forgotten,
    ends_once,
    one_id_a_key,
    nothing_unasked,
    right_result,
    right_picture,
    honoured_once,
    held_by_one,
    quota_kept,
    blobs_there,
    nothing_grows,
    answers_are_planned,
    answered_in_time,
    model_is_told,
    answered_by_what_is_served,
    *OF_EVENTS,
    *OF_LENDING,
    strangers_see_nothing,
    owners_are_apart,
    lists_are_whole,
    keys_open_and_close,
    limits_hold,
    order_is_kept,
)


def _by_real_workers(case: Case, key: str) -> set[float]:
    """The score that a real worker gives, whose results are not in the history."""
    return {case.story.run["scores"][case.accepted[key][0].call["picture"]]} if key in case.accepted else set()


def _forgotten(case: Case, key: str, op: Op) -> bool:
    """Whether a 410 is right, because the result is older than results are kept."""
    return op.status == 410 and op.begun - case.accepted[key][0].begun > case.story.run["results_seconds"] - 1
