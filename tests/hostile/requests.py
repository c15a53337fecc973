"""Sends a great many mutated requests to a real server, and says what came of them."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import psutil

from tests.hostile.answers import Reader
from tests.hostile.mutator import INTERNAL, PUBLIC
from tests.hostile.oddities import SECRET
from tests.hostile.seen import MEGABYTE
from tests.running import ROOT, Service, alive, service
from tests.service.pictures import cat, encode
from tests.waiting import eventually

SETTINGS = [
    "tiers.free.quota.pods=1",
    "tiers.premium.quota.pods=1",
    "tiers.free.waits.syncSeconds=0.1",
    "tiers.premium.waits.syncSeconds=0.1",
    "tiers.free.job.deadlineSeconds=90000",
    "tiers.premium.job.deadlineSeconds=90000",
    "tiers.free.waits.idleSeconds=86400",
    "tiers.premium.waits.idleSeconds=86400",
    "tiers.free.job.maxPredictions=100000000",
    "tiers.free.waits.resultsSeconds=60",
    "tiers.premium.waits.resultsSeconds=60",
]
GROWTH_MB = 48.0
SETTLED_SHARE = 0.2


@dataclass(slots=True)
class Outcome:
    """What came of a run. ``memory`` has the server's resident MB after each second."""

    sent: int = 0
    answered: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def table(self) -> str:
        """For people."""
        lines = [f"{number:9} {what}" for what, number in sorted(self.counts.items())]
        rate, memory = self.sent / max(self.seconds, 0.001), self.memory or [0.0]
        lines.append(f"{self.sent} requests, {self.answered} answers in {self.seconds:.0f} s: {rate:.0f} a second")
        lines.append(f"memory: {memory[0]:.0f} MB first, {max(memory):.0f} at most, {memory[-1]:.0f} at the end")
        return "\n".join([*lines, *self.complaints])


def run(
    models: Path,
    folder: Path,
    count: int,
    seed: int,
    processes: int = 1,
    settings: Sequence[str] = (),
    options: Sequence[str] = (),
    progress: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Send so many requests. Failures are saved in the folder."""
    picture = encode(cat().resize((24, 24)), "PNG")
    with service(models, folder / "state", [*SETTINGS, *settings], options=options) as serving:
        for tier in ("free", "premium"):
            assert serving.post(tier, picture, {"Prefer": "wait=20"}).status == 200
        workers, outcome = serving.workers(), Outcome()
        (premium,) = [one for one in workers if one.environ()["TIERSERVE_TOKEN"].startswith("premium.")]
        order = {
            "ports": {PUBLIC: serving.port, INTERNAL: serving.internal_port},
            "token": premium.environ()["TIERSERVE_TOKEN"],
            "admin": (serving.state / "admin-token").read_text().strip(),
            "picture": base64.b64encode(picture).decode(),
            "count": count // processes,
            "seed": seed,
        }
        began = time.monotonic()
        with senders(order, processes, outcome) as threads:
            while any(thread.is_alive() for thread in threads):
                time.sleep(1.0)
                outcome.memory.append(memory_of(serving))
                outcome.seconds = time.monotonic() - began
                progress(f"{outcome.sent} sent, {outcome.memory[-1]:.0f} MB, {len(outcome.failures)} wrong")
        outcome.complaints += list(complaints(serving, workers, outcome, picture))
    for number, failure in enumerate(outcome.failures):
        (folder / f"wrong-{number}.json").write_text(json.dumps(failure, indent=1))
    return outcome


def complaints(serving: Service, workers: Sequence[psutil.Process], outcome: Outcome, picture: bytes) -> Iterator[str]:
    """What is wrong after a run."""
    wrong = {what: number for what, number in outcome.counts.items() if what.startswith("WRONG")}
    if wrong:
        yield f"wrong answers: {wrong}"
    if serving.process is None or serving.process.poll() is not None:
        yield "the server has ended"
        return
    if not all(alive(worker.pid) for worker in workers):
        yield "a worker has ended"
    log = serving.log.read_bytes()
    if b"Traceback" in log:
        yield f"there are {log.count(b'Traceback')} tracebacks in the log"
    if SECRET.encode() in log:
        yield "a key is in the log"
    settled = outcome.memory[int(SETTLED_SHARE * len(outcome.memory)) :]
    if settled and settled[-1] > settled[0] + GROWTH_MB:
        yield f"the memory grew from {settled[0]:.0f} to {settled[-1]:.0f} MB"

    def done() -> int:
        return serving.post("free", picture, {"Prefer": "wait=20"}).status

    with suppress(AssertionError):
        eventually(done, 120, "the free tier works", lambda status: status == 200)
        return
    yield "the free tier does not work any more"


def memory_of(serving: Service) -> float:
    """The server's resident memory in MB; 0 when it has ended."""
    with suppress(psutil.NoSuchProcess):
        assert serving.process is not None
        return float(serving.process.memory_info().rss / MEGABYTE)
    return 0.0


@contextmanager
def senders(order: dict[str, Any], processes: int, outcome: Outcome) -> Iterator[list[Thread]]:
    """Processes that send, and threads that add their reports to the outcome."""
    started, threads = [], []
    for index in range(processes):
        pipe = subprocess.PIPE
        words = [sys.executable, "-m", "tests.hostile.sender"]
        # Its many threads would make as many arenas, and glibc would keep what each has ever used.
        given = {**os.environ, "MALLOC_ARENA_MAX": "2"}
        process = subprocess.Popen(words, cwd=ROOT, env=given, text=True, stdin=pipe, stdout=pipe)
        assert process.stdin is not None
        process.stdin.write(json.dumps(order | {"index": index}) + "\n")
        process.stdin.flush()
        started.append(process)
        threads.append(Thread(target=_listen, args=(process, outcome), daemon=True))
        threads[-1].start()
    try:
        yield threads
    finally:
        for process in started:
            process.kill()
        for thread in threads:
            thread.join(10)
        for process in started:
            for end in (process.stdin, process.stdout):
                if end is not None:
                    end.close()


def _listen(process: subprocess.Popen[str], outcome: Outcome) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        seen = json.loads(line)
        outcome.sent += seen["sent"]
        outcome.answered += seen["answered"]
        outcome.counts.update(seen["counts"])
        outcome.failures.extend(seen["failures"])
    if status := process.wait():
        outcome.complaints.append(f"a process that sends has ended with status {status}")


def replay(path: Path, models: Path, folder: Path) -> Iterator[str]:
    """Send a saved failure to a new server, and say what is answered to each of its requests."""
    saved = json.loads(path.read_text())
    with service(models, folder / "state", SETTINGS) as serving:
        port = serving.port if saved["port"] == PUBLIC else serving.internal_port
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            reader = Reader(connection)
            for data in map(base64.b64decode, saved["data"]):
                connection.sendall(data)
                yield f"> {data[:500]!r}"
                reply = reader.read(data.split(b" ", 1)[0].decode("latin-1"))
                yield f"< {reply.status} {reply.body[:500]!r}" if reply else "< closed"
        yield serving.log.read_text()[-5000:]
