"""The judge's rules about models: who answers says which model it was, and that one was served at the time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tests.faults.case import Case
from tests.faults.history import Op

LATE_SECONDS = 3.0  # within which a busy server has told all its workers what is served
EFFECT_SECONDS = 6.0  # for so long a change may come into force although another one has followed

Stretch = tuple[float, float]


def plain_label(case: Case, end: Op) -> str:
    """The label of an answer without the word that the model that answered has before its labels."""
    label, word = str(end.answer.get("label")), case.story.run.get("words", {}).get(end.answer.get("model"), "")
    if word and not label.startswith(f"{word} "):
        return f"{label}, which is no label of {end.answer['model']}"
    return label.removeprefix(f"{word} ") if word else label


def model_is_told(case: Case) -> Iterator[str]:
    """A prediction that succeeded names the model that classified it."""
    words = case.story.run.get("words")
    for key, end in case.ends.items():
        if words and end.answer["state"] == "succeeded" and end.answer.get("model") not in words:
            yield f"{key} was answered by {end.answer.get('model')}, which is no model of this run"


def answered_by_what_is_served(case: Case) -> Iterator[str]:
    """A prediction is classified by a model that its tier served at some moment between acceptance and answer."""
    if not case.story.did("served"):
        return
    served = _served(case)
    for key, end in case.ends.items():
        if end.answer["state"] != "succeeded" or key not in case.accepted or "model" not in end.answer:
            continue
        model, since, until = end.answer["model"], case.accepted[key][0].begun, end.ended or math.inf
        if not any(first <= until and since <= last for first, last in served.get(model, ())):
            yield f"{key} was accepted after {since} and answered by {until}, by {model}, which was not served then"


def _served(case: Case) -> Mapping[str, Sequence[Stretch]]:
    """By model, the stretches of time in which it may have been served, as far as looks and changes tell."""
    changes, looks = case.story.did("change"), case.story.did("served")
    ended = defaultdict[str, list[Stretch]](list)
    since: dict[str, float] = dict.fromkeys(case.story.run.get("first", ()), 0.0)
    before = 0.0  # the look before
    moments = sorted([(op.begun, op) for op in changes] + [(op.ended or math.inf, op) for op in looks], key=_moment)
    for at, op in moments:
        if op.do == "change":
            for model in op.call["wanted"]:
                since.setdefault(model, at)
        elif op.status == 200 and op.answer["models"]:
            seen = set(op.answer["models"])
            for model in seen:
                since.setdefault(model, before)
            before = op.begun
            for model in since.keys() - seen - _coming(changes, op):
                ended[model].append((since.pop(model), at + LATE_SECONDS))
    for model, first in since.items():
        ended[model].append((first, math.inf))
    return ended


def _coming(changes: Sequence[Op], look: Op) -> set[str]:
    """The models that may come into force after a look: by the last change, or for a while by those before it."""
    found: set[str] = set()
    for number, op in enumerate(changes):
        after = changes[number + 1].begun if number + 1 < len(changes) else math.inf
        if op.begun <= (look.ended or math.inf) and look.begun <= after + EFFECT_SECONDS:
            known = op.ended is not None and op.ended <= look.begun
            found |= set(op.answer.get("wanted", ()) if known else op.call["wanted"])
    return found


def _moment(one: tuple[float, Op]) -> float:
    return one[0]
