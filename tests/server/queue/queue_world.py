"""A queue over a real file, a clock in the test's hand, and short words for what tests do with them.

A second database comes under the same tests by one more class in ``WORLDS``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from server.queue import Completion, Database, Leased, Prediction, Queue, Status, Submission, new_id

RESULTS = [{"index": 0, "labels": [{"label": "tabby", "score": 0.9}]}]
MANY = 1 << 30
CHILD = [sys.executable, str(Path(__file__).with_name("submit_forever.py"))]


class HandClock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class World:
    """One data directory and the queue open on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = HandClock()
        self.start()

    def start(self) -> None:
        self.database = Database.open(self.directory / "data", self.clock)
        self.queue = Queue(self.database)
        self.topics: list[frozenset[str]] = []
        self.queue.listen(lambda news: self.topics.append(frozenset(news)))

    def stop(self) -> None:
        self.database.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def submission(self, **changes: Any) -> Submission:
        plain = Submission(
            id=new_id(self.clock),
            tier="free",
            model="lite0",
            images=1,
            size=1000,
            top_k=5,
            priority=0,
            deadline=600.0,
            idempotency_key=None,
            fingerprint=None,
            owner="anna",
        )
        return replace(plain, **changes)

    def submit(self, **changes: Any) -> str:
        prediction, _ = self.queue.submit(self.submission(**changes), MANY).result()
        return prediction.id

    def job(self, name: str = "job", tier: str = "free") -> str:
        self.queue.open_job(name, tier, f"run-{name}").result()
        return name

    def lease(
        self, job: str = "job", most: int = 100, *, tier: str = "free", most_bytes: int = MANY, seconds: float = 30.0
    ) -> list[Leased]:
        return self.queue.lease(tier, job, most, most_bytes, seconds).result()

    def complete(self, leased: Leased, job: str = "job", *, error: dict[str, Any] | None = None) -> str:
        return self.queue.complete(job, [Completion(leased.id, leased.token, RESULTS, error, 8.0)]).result()[0]

    def get(self, prediction_id: str) -> Prediction:
        found = self.queue.get(prediction_id).result()
        assert found is not None
        return found

    def status(self, prediction_id: str) -> Status:
        return self.get(prediction_id).status

    def heard(self) -> set[str]:
        """Every topic since the last call. Only meaningful once the writer has done something after it."""
        self.database.write(lambda _: None).result()
        heard = set[str]().union(*self.topics)
        self.topics.clear()
        return heard


def pairs(leased: Sequence[Leased]) -> list[tuple[str, str]]:
    return [(one.id, one.token) for one in leased]


WORLDS: list[type[World]] = [World]


@contextmanager
def child(directory: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([*CHILD, str(directory)], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
