"""A real server with real workers that is attacked while honest clients use it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.hostile.honest import ANSWER_SECONDS
from tests.hostile.seen import Memory, Stretch, wait_for_answers
from tests.hostile.verdict import FLOOR_SECONDS, Round, broken, figures, slow
from tests.running import ROOT, Service, alive
from tests.service.pictures import cat, encode
from tests.waiting import eventually

OPEN_FILES = 1024
SETTINGS = [
    "tiers.free.quota.pods=1",
    "tiers.premium.quota.pods=1",
    "tiers.free.waits.syncSeconds=5",
    "tiers.free.waits.idleSeconds=300",
]
REST_SECONDS = 2.0


class Siege:
    """One server, its honest clients, and the attackers that wait for orders."""

    def __init__(self, service: Service, honest: Path, attacker: subprocess.Popen[str], memory: Memory) -> None:
        self.service, self._honest, self._attacker, self.memory = service, honest, attacker, memory
        self.rest_mb = memory.now()
        self._workers = [worker.pid for worker in service.workers()]

    def rest(self, seconds: float) -> Stretch:
        """Let the honest clients be alone for so long."""
        start, cpu = time.monotonic(), self._processor()
        self.memory.forget()
        time.sleep(seconds)
        return self._stretch(start, cpu)

    def attack(self, names: Sequence[str], seconds: float, before: Stretch, seed: str) -> tuple[Round, dict[str, Any]]:
        """Attack for so long. Returns what was seen, and what each attack did."""
        written, start, cpu = self.service.log.stat().st_size, time.monotonic(), self._processor()
        self.memory.forget()
        order = {
            "names": list(names),
            "port": self.service.port,
            "internal_port": self.service.internal_port,
            "tier": "free",
            "seconds": seconds,
            "seed": seed,
        }
        assert self._attacker.stdin is not None and self._attacker.stdout is not None
        self._attacker.stdin.write(json.dumps(order) + "\n")
        self._attacker.stdin.flush()
        done = self._attacker.stdout.readline()
        if not done:
            raise RuntimeError("the attackers' process has ended")
        during = self._stretch(start, cpu)
        log = self.service.log.read_bytes()[written:]
        return Round(before, during, log, self.ended()), json.loads(done)

    def ended(self) -> str:
        """Which process has ended, if one has; empty while all of them live."""
        process = self.service.process
        if process is None or process.poll() is not None:
            return "the server has ended"
        return "" if all(map(alive, self._workers)) else "a worker has ended"

    def _stretch(self, start: float, cpu: float) -> Stretch:
        end = time.monotonic()
        found = wait_for_answers(self._honest, start, end, ANSWER_SECONDS + 1)
        return Stretch(found, self.memory.peak_mb, self._processor() - cpu)

    def _processor(self) -> float:
        with suppress(psutil.NoSuchProcess):
            times = self.memory.process.cpu_times()
            return float(times.user + times.system)
        return 0.0


def besiege(
    besieged: Siege,
    names: Sequence[str],
    seconds: float,
    rounds: int,
    seed: str,
    say: Callable[[str], None] = lambda line: None,
    *,
    until_fast: bool = False,
    floor: float = FLOOR_SECONDS,
) -> list[str]:
    """Attack in several rounds, with a rest before each, and return what went wrong.

    What must never happen may happen in no round. Slow answers count if no round was without them, because other
    programs of the machine come and go, while a slow server is always slow. ``until_fast`` ends with the first round
    that was fast. An answer may take twice as long as usual, or ``floor`` seconds more.
    """
    wrong, complaints = list[str](), list[str]()
    fast = False
    for number in range(rounds):
        seen, sent = besieged.attack(names, seconds, besieged.rest(REST_SECONDS), f"{seed}/{number}")
        complaints = slow(seen, floor)
        fast = fast or not complaints
        wrong += broken(seen)
        title = names[0] if len(names) == 1 else "all at once"
        say("\n    ".join([f"{title}: {figures(seen, sent)}", *broken(seen), *complaints]))
        if seen.ended or (until_fast and fast):
            break
    return wrong + ([] if fast else complaints)


@contextmanager
def siege(models: Path, folder: Path, settings: Sequence[str] = ()) -> Iterator[Siege]:
    """A server that may open 1,024 files, with one busy worker in each tier, and with honest clients."""
    service = Service(folder / "state", models, [*SETTINGS, *settings])
    service.command = ["prlimit", f"--nofile={OPEN_FILES}:{OPEN_FILES}", *service.command]
    service.start()
    honest, picture = folder / "honest.jsonl", folder / "picture.png"
    picture.write_bytes(encode(cat().resize((64, 64)), "PNG"))
    started: list[subprocess.Popen[Any]] = []
    memory = None
    try:
        for tier in ("free", "premium"):
            assert service.post(tier, picture.read_bytes()).status == 200
        assert service.process is not None
        memory = Memory(psutil.Process(service.process.pid))
        with honest.open("wb") as file:
            words = [sys.executable, "-m", "tests.hostile.honest", str(service.port), str(picture)]
            started.append(subprocess.Popen(words, cwd=ROOT, stdout=file))
        words = [sys.executable, "-m", "tests.hostile.attacker"]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(words, cwd=ROOT, text=True, stdin=pipe, stdout=pipe))
        eventually(lambda: honest.stat().st_size, 20, "honest clients ask")
        memory.start()
        yield Siege(service, honest, started[-1], memory)
    finally:
        for process in started:
            process.kill()
            process.wait(10)
            for end in (process.stdin, process.stdout):
                if end is not None:
                    end.close()
        if memory is not None:
            memory.ended.set()
        service.stop()
