"""A history: what was sent, what was answered, and when. It has one JSON object a line, and is judged later."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.running import Answer

FINAL = frozenset({"succeeded", "failed", "canceled", "expired", "aborted"})


class History:
    """Appends to a file, from any thread. Each line is one write, so that a crash of the writer loses none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # O_APPEND keeps the lines of several threads apart; O_EXCL because two runs in one file could not be judged.
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._numbers = itertools.count(1)
        self._began = time.monotonic()

    def now(self) -> float:
        """Seconds since the history began."""
        return round(time.monotonic() - self._began, 4)

    def tell(self, what: str, **facts: Any) -> None:
        """Record an event."""
        os.write(self._file, json.dumps({"what": what, "at": self.now(), **facts}).encode() + b"\n")

    def call(self, by: str, do: str, **facts: Any) -> int:
        """Record a request before it is sent; returns its number, which ``answer`` takes."""
        number = next(self._numbers)
        self.tell("call", n=number, by=by, do=do, **facts)
        return number

    def answer(self, number: int, **facts: Any) -> None:
        """Record the answer to a request. Without a status it means that no answer came."""
        self.tell("answer", n=number, **facts)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


@dataclass(frozen=True, slots=True)
class Op:
    """A request of a client or worker, with its answer.

    ``ended`` is None if nothing was recorded after the request. If ``answer`` has no status, nobody knows whether the
    server did what was asked.
    """

    n: int
    by: str
    do: str
    begun: float
    call: dict[str, Any]
    ended: float | None = None
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status, or 0 when no answer came."""
        return int(self.answer.get("status", 0))

    @property
    def id(self) -> str:
        """The id of the prediction that it was about; empty if it is not known."""
        return str(self.answer.get("id") or self.call.get("id") or "")


@dataclass(slots=True)
class Story:
    """A history that has been read: the facts of the run, the operations and the events."""

    run: dict[str, Any] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def did(self, *what: str) -> list[Op]:
        """The operations of these kinds, in the order in which they began."""
        return [op for op in self.ops if op.do in what]

    def told(self, what: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [event for event in self.events if event["what"] == what]


def read(path: Path) -> Story:
    """Read a history. A last line that was cut off is left out."""
    return parse(path.read_text().splitlines())


def parse(lines: list[str]) -> Story:
    """Make a story from a history's lines."""
    story, calls, answers = Story(), {}, {}
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
        except ValueError:
            if number == len(lines):
                break
            raise
        match event["what"]:
            case "run":
                story.run |= event
            case "call":
                calls[event["n"]] = event
            case "answer":
                answers[event["n"]] = event
            case _:
                story.events.append(event)
    for n, call in calls.items():
        answer = answers.get(n, {})
        story.ops.append(
            Op(
                n=n,
                by=call["by"],
                do=call["do"],
                begun=call["at"],
                call=call,
                ended=answer.get("at"),
                answer=answer,
            )
        )
    return story


def facts(answer: Answer) -> dict[str, Any]:
    """The parts of an answer that the judge needs."""
    noted: dict[str, Any] = {"status": answer.status}
    if "json" not in answer.headers.get("Content-Type", ""):
        return noted
    body = answer.json
    if isinstance(body.get("code"), str):
        noted["code"] = body["code"]
    seen = body.get("prediction", body)
    if not isinstance(seen.get("id"), str):
        return noted
    noted |= {"id": seen["id"], "state": seen["status"], "attempts": seen["attempts"]}
    if seen["status"] in FINAL:
        final = json.dumps([seen[key] for key in ("status", "results", "error", "completed_at")])
        noted["final"] = hashlib.sha256(final.encode()).hexdigest()[:16]
        noted["error"] = (seen["error"] or {}).get("code")
        noted["model"] = seen["model"]
        best = next((result["labels"][0] for result in seen["results"] if result["labels"]), None)
        noted |= {"label": best["label"], "score": best["score"]} if best else {}
    return noted


def listed(answer: Answer) -> dict[str, Any]:
    """The parts of a list of predictions that the judge needs; ``whole``: nothing comes after its last one."""
    noted = facts(answer)
    if answer.status == 200:
        body = answer.json
        noted |= {"ids": [one["id"] for one in body["predictions"]], "whole": body["next_cursor"] is None}
    return noted
