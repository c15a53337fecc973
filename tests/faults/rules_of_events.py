"""The judge's rules about events: what they say is in order, complete, and true.

That an end which was told is the end that all others see is for ``ends_once`` and ``right_result`` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.faults.case import Case
from tests.faults.history import FINAL

BEFORE_THE_END = frozenset({"queued", "starting", "leased"})
TOLD_SECONDS = 8.0  # within which a busy server has told of an end that others know


def events_are_in_order(case: Case) -> Iterator[str]:
    """A stream tells one end of a prediction, as the last event of it, and names it as its data does."""
    for op in case.story.did("follow"):
        names = op.answer.get("names", ())
        if strange := set(names) - BEFORE_THE_END - FINAL - {"gone"}:
            yield f"{op.id} had events of an unknown kind: {', '.join(sorted(strange))}"
        if any(name in FINAL or name == "gone" for name in names[:-1]):
            yield f"{op.id} was told of after its end: {', '.join(names)}"
        if names and names[-1] in FINAL and names[-1] != op.answer["state"]:
            yield f"{op.id} had an event {names[-1]} whose data says {op.answer['state']}"


def nothing_is_told_twice(case: Case) -> Iterator[str]:
    """Who says which event it saw last is not told that state again; and not that all is over before it was told so."""
    for op in case.story.did("follow"):
        last = op.call.get("last")
        if last and op.answer.get("first_id") == last:
            yield f"{op.id} was told of again at {op.begun}, although its client had seen that"
        if op.status == 204 and op.call.get("knew") not in FINAL:
            yield f"{op.id} was called over at {op.begun}, and its client has not been told its end"


def ends_are_told(case: Case) -> Iterator[str]:
    """Who follows a prediction is told its end soon after others know it, unless the stream is lost or drained."""
    for op in case.story.did("follow"):
        told = {op.answer.get("state"), op.call.get("knew")} & FINAL
        if told or op.status != 200 or op.answer.get("how") not in ("left", "ended"):
            continue
        if op.answer["how"] == "ended" and "code" not in op.answer:
            yield f"{op.id} was followed from {op.begun} on, and the stream ended without its end"
        end = case.ends.get(op.id)
        if end is not None and (op.ended or 0.0) - max(op.begun, end.ended or 0.0) > TOLD_SECONDS:
            yield f"{op.id} was {end.answer['state']} at {end.ended}, and who followed it was not told by {op.ended}"


def no_accepted_is_gone(case: Case) -> Iterator[str]:
    """A stream of several predictions calls none of them gone that was accepted and is still kept."""
    for op in case.story.did("follow"):
        young = op.id in case.accepted and (
            op.begun - case.accepted[op.id][0].begun < case.story.run["results_seconds"] - 1
        )
        if young and "gone" in op.answer.get("names", ()):
            yield f"{op.id} was accepted, and called gone at {op.begun}: {op.answer.get('code')}"


OF_EVENTS: tuple[Callable[[Case], Iterator[str]], ...] = (
    events_are_in_order,
    nothing_is_told_twice,
    ends_are_told,
    no_accepted_is_gone,
)
