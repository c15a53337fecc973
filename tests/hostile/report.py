"""What a process that sends has seen: it writes a line of JSON each time that it is told to."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections import Counter
from typing import Any

from tests.hostile.answers import Reply
from tests.hostile.mutator import Sending

KEPT_OF_A_KIND = 3


class Report:
    """What all threads of the process have seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self.failures: list[dict[str, Any]] = []
        self.sent = self.answered = 0

    def note(self, reply: Reply | None, sendings: int = 0) -> None:
        """Count an answer, or that none came."""
        with self._lock:
            self.sent += sendings
            if reply is not None:
                self.answered += 1
                self.counts[f"{reply.status} {reply.code}".strip()] += 1

    def count(self, what: str) -> None:
        """Count an answer that is no HTTP."""
        with self._lock:
            self.answered += 1
            self.counts[what] += 1

    def fail(self, what: str, said: list[Sending], reply: Reply | None) -> None:
        """Keep a request that got a wrong answer, after those that were sent before it on its connection."""
        data = [base64.b64encode(one.data).decode() for one in said]
        found = {
            "what": what,
            "port": said[-1].port,
            "data": data,
            "answer": (reply.body if reply else b"")[:2000].decode("latin-1"),
        }
        with self._lock:
            self.counts[f"WRONG {what}"] += 1
            self._kinds[what] += 1
            if self._kinds[what] <= KEPT_OF_A_KIND:
                self.failures.append(found)

    def tell(self) -> None:
        """Write what was seen since the last time."""
        with self._lock:
            line = {"sent": self.sent, "answered": self.answered, "counts": self.counts, "failures": self.failures}
            text = json.dumps(line)
            self.counts, self.failures, self.sent, self.answered = Counter(), [], 0, 0
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
