"""Invented histories for the tests of the judge."""

from __future__ import annotations

import json
from typing import Any

from tests.faults.history import Story, parse

RUN = {
    "labels": {"cat": "tabby"},
    "scores": {"cat": 0.75},
    "lease_seconds": 2.0,
    "results_seconds": 60.0,
    "quota": {"free": 2},
    "limits": {
        "cedar": {"perSecond": 1, "burst": 3, "perDay": 6},
        "dahlia": {"perSecond": 0.1, "burst": 1, "perDay": 9},
    },
    "most": {"rss": 1000, "threads": 10, "fds": 10, "left_over": 0, "at_once": 1, "logs": 5, "age": 100},
}
DISK = {
    "rows": [["p1", "k1", "succeeded"]],
    "depths": {},
    "counted": {},
    "broken": "",
    "missing": [],
    "stale": 0,
    "orphans": 0,
    "logs": 1,
    "oldest": 5.0,
}
DONE = {"status": 200, "id": "p1", "state": "succeeded", "final": "f1", "error": None, "label": "tabby", "score": 0.5}
SUBMIT = {"do": "submit", "key": "k1", "picture": "cat", "digest": "d1", "poison": False, "cancel_after": None}
QUEUED = {"status": 202, "id": "p1", "state": "queued"}
LEASE = {"do": "lease", "job": "j1"}
COMPLETE = {"do": "complete", "job": "j1", "id": "p1", "token": "t1", "score": 0.5, "forged": False}


class Tale:
    """Makes a history in which each line comes a second after the one before."""

    def __init__(self) -> None:
        self._lines = [{"what": "run", "at": 0, **RUN}]
        self._n = 0

    def call(self, call: dict[str, Any], answer: dict[str, Any] | None = None, **changes: Any) -> Tale:
        """Add a request, and its answer if there is one. ``changes`` replace facts of the answer."""
        self._n += 1
        self._lines.append({"what": "call", "at": len(self._lines), "n": self._n, "by": "c", **call})
        if answer is not None:
            self._lines.append({"what": "answer", "at": len(self._lines), "n": self._n, **answer, **changes})
        return self

    def get(self, **changes: Any) -> Tale:
        """Add a look at the prediction."""
        return self.call({"do": "get", "id": "p1"}, DONE, **changes)

    def event(self, what: str, **facts: Any) -> Tale:
        """Add an event."""
        self._lines.append({"what": what, "at": len(self._lines), **facts})
        return self

    def story(self) -> Story:
        """The story that the judge reads."""
        return parse([json.dumps(line) for line in self._lines])
