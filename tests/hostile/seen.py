"""What honest clients and the server's memory showed during one stretch of time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import psutil

MEGABYTE = 1024 * 1024
LOOK_SECONDS = 0.05
# A server that takes more is ended: the machine has other things to do, and the verdict is clear.
GUARD_MB = 1000.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One honest request. ``took`` is None while it has no answer; ``apart`` is whether no attacker has its address."""

    kind: str
    began: float
    apart: bool
    took: float | None = None
    status: int = 0
    retry: bool = False
    trouble: str = ""

    @property
    def done(self) -> bool:
        """Whether it got what it asked for."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time: its honest requests, and the largest memory of the server in it, in MB."""

    samples: Sequence[Sample]
    peak_mb: float
    cpu_seconds: float = 0.0

    def of(self, kind: str) -> list[Sample]:
        """The samples of one kind."""
        return [sample for sample in self.samples if sample.kind == kind]

    def p95(self, kind: str) -> float | None:
        """The 95th percentile of the seconds of what was answered well; None if there are too few to tell."""
        took = [sample.took for sample in self.of(kind) if sample.done and sample.took is not None]
        return quantiles(took, n=20)[18] if len(took) >= 5 else None


def samples(path: Path, start: float, end: float) -> list[Sample]:
    """The requests that began between two moments of the monotonic clock, from the honest clients' file."""
    begun: dict[int, dict[str, Any]] = {}
    ended: dict[int, dict[str, Any]] = {}
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):  # the last line may be half written
            seen = json.loads(line)
            (begun if "began" in seen else ended)[seen["number"]] = seen
    return [_sample(one, ended.get(number, {})) for number, one in begun.items() if start <= one["began"] < end]


def _sample(begun: dict[str, Any], ended: dict[str, Any]) -> Sample:
    given = {**begun, **ended}
    del given["number"]
    return Sample(**given)


class Memory:
    """Looks at a process again and again in a thread of its own; ends it when it takes more than it ever may."""

    def __init__(self, process: psutil.Process) -> None:
        self.process, self.ended = process, threading.Event()
        self._seen_mb, self._exact = 0.0, False

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="memory", daemon=True).start()

    def now(self) -> float:
        """The resident memory in MB; 0 when the process has ended."""
        with suppress(psutil.NoSuchProcess):
            return float(self.process.memory_info().rss / MEGABYTE)
        return 0.0

    def forget(self) -> None:
        """Begin a new peak."""
        self._seen_mb = self.now()
        with suppress(OSError):  # some containers forbid it; then the peak is that of the looks
            self._of_process("clear_refs").write_text("5")
            self._exact = True

    @property
    def peak_mb(self) -> float:
        """The largest resident memory since ``forget``, in MB."""
        if self._exact:
            with suppress(OSError):
                lines = self._of_process("status").read_text().splitlines()
                kilobytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
                return max([self._seen_mb, *(number / 1024 for number in kilobytes)])
        return self._seen_mb

    def _of_process(self, name: str) -> Path:
        return Path(f"/proc/{self.process.pid}/{name}")

    def _run(self) -> None:
        while not self.ended.wait(LOOK_SECONDS):
            self._seen_mb = max(self._seen_mb, self.now())
            if self._seen_mb > GUARD_MB:
                with suppress(psutil.NoSuchProcess):
                    self.process.kill()
                return


def wait_for_answers(path: Path, start: float, end: float, seconds: float) -> Sequence[Sample]:
    """The requests of a stretch, once all of them have ended or so many seconds have passed."""
    until = time.monotonic() + seconds
    while True:
        found = samples(path, start, end)
        if all(sample.took is not None for sample in found) or time.monotonic() > until:
            return found
        time.sleep(0.1)


def statuses(found: Iterable[Sample]) -> dict[int, int]:
    """How many answers had each status; 0 stands for requests without an answer."""
    counts: dict[int, int] = {}
    for sample in found:
        counts[sample.status] = counts.get(sample.status, 0) + 1
    return dict(sorted(counts.items()))
