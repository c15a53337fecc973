"""A story of a history, with the views of it that the rules of the judge need."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import cached_property
from typing import Any

from tests.faults.clients import OUTCOME_UNKNOWN
from tests.faults.history import FINAL, Op, Story


class Case:
    """A story, with its views."""

    def __init__(self, story: Story) -> None:
        self.story = story

    @cached_property
    def submits(self) -> dict[str, list[Op]]:
        """The submits, by idempotency key."""
        return by(self.story.did("submit"), lambda op: str(op.call["key"]))

    @cached_property
    def accepted(self) -> dict[str, list[Op]]:
        """What clients were promised: by id of each accepted prediction, all submits of its key."""
        found: dict[str, list[Op]] = {}
        for tries in self.submits.values():
            for op in tries:
                if op.answer.get("id"):
                    found.setdefault(op.id, tries)
        return found

    @cached_property
    def owners(self) -> dict[str, set[str]]:
        """By id of each accepted prediction, the owners of whose requests it was the answer."""
        found: dict[str, set[str]] = defaultdict(set)
        for op in self.story.did("submit"):
            if op.answer.get("id") and op.call.get("owner"):
                found[op.id].add(str(op.call["owner"]))
        return dict(found)

    @cached_property
    def seen(self) -> dict[str, list[Op]]:
        """By id, the operations whose answers name a state, in the order in which the answers came."""
        ops = [op for op in self.story.did("submit", "get", "cancel", "follow") if op.answer.get("state")]
        return by(sorted(ops, key=lambda op: op.ended or 0.0), lambda op: op.id)

    @cached_property
    def ends(self) -> dict[str, Op]:
        """By id, the operation whose answer was the first one with a final state."""
        found = ((key, next((op for op in ops if op.answer["state"] in FINAL), None)) for key, ops in self.seen.items())
        return {key: op for key, op in found if op is not None}

    @cached_property
    def results(self) -> dict[str, list[Op]]:
        """By id, the results that the harness handed in where it was the worker."""
        return by(self.story.did("complete"), lambda op: str(op.call["id"]))

    @cached_property
    def last_look(self) -> dict[str, Any] | None:
        """The last look at all rows on the disk; None if nobody looked."""
        return next((look for look in reversed(self.story.told("disk")) if "rows" in look), None)

    @cached_property
    def rows(self) -> dict[str, tuple[str, str]] | None:
        """By id, the key and the state of each row at the last look at the disk; None if nobody looked.

        The key of a request without one is the name of its wish, if a worker got its picture; else it is empty.
        """
        if self.last_look is None:
            return None
        found: list[list[Any]] = self.last_look["rows"]
        return {row[0]: (row[1] or self.without_key.get(row[0], ""), row[2]) for row in found}

    @cached_property
    def without_key(self) -> dict[str, str]:
        """By id, the wishes of those requests without a key whose picture a worker got: no two have the same one."""
        by_digest = {
            op.call["digest"]: str(op.call["key"]) for op in self.story.did("submit") if op.call.get("keyless")
        }
        leases = [lease for op in self.story.did("lease") for lease in op.answer.get("leases", ())]
        return {key: by_digest[digest] for key, _, digest in leases if digest in by_digest}

    @cached_property
    def last_leased(self) -> dict[str, float]:
        """By id, when a worker got it last."""
        found: dict[str, float] = {}
        for op in self.story.did("lease"):
            for lease in op.answer.get("leases", ()):
                found[lease[0]] = max(op.ended or 0.0, found.get(lease[0], 0.0))
        return found

    @cached_property
    def in_doubt(self) -> set[str]:
        """The keys of the requests of which a try had no answer, or one that left it open."""
        return {key for key, tries in self.submits.items() if any(_is_open(op) for op in tries)}


def by(ops: list[Op], key: Callable[[Op], str]) -> dict[str, list[Op]]:
    """Operations by what ``key`` says of each."""
    found: dict[str, list[Op]] = defaultdict(list)
    for op in ops:
        found[key(op)].append(op)
    return dict(found)


def _is_open(op: Op) -> bool:
    """Whether its client cannot know if the request was accepted."""
    return (not op.status and op.answer.get("error") != "ConnectionRefusedError") or op.answer.get(
        "code"
    ) == OUTCOME_UNKNOWN
