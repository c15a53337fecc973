"""Send many damaged pictures through the worker's decoder: each must become an array or an ``ImageError``.

``python -m tests.hostile.pictures --count 1000000 --seed 7 --processes 2`` prints the rate, the counts by code, the
largest memory and the slowest picture. It exits with 1 after anything but an ``ImageError``, after a process that
died, and if memory grows. It saves each picture that fails. The same seed gives the same pictures.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from model.decoder import Decoder
from model.description import read_model
from model.images import ImageError, Preprocessing
from tests.hostile.mutants import mutant
from tests.model.pictures import LITE0

MOST_PIXELS = 1_000_000
BATCH = 1000
GROWTH_MB = 40
SECONDS = 20.0
CODES = frozenset(
    ("image_empty", "image_unsupported", "image_too_large", "image_truncated", "image_broken", "image_too_slow")
)


@dataclass
class Report:
    """What became of some pictures."""

    codes: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)
    """Seconds, and the picture's number."""
    failures: list[tuple[int, str]] = field(default_factory=list)
    """The number of each picture that failed, and why."""
    memory: dict[int, list[int]] = field(default_factory=dict)
    """By process, its resident megabytes and those of its child after each batch."""
    peak: int = 0
    """The most resident megabytes of any process."""

    def add(self, other: Report) -> None:
        self.codes += other.codes
        self.slowest = max(self.slowest, other.slowest)
        self.failures += other.failures
        self.peak = max(self.peak, other.peak)
        for process, sizes in other.memory.items():
            self.memory.setdefault(process, []).extend(sizes)

    def growth(self) -> int:
        """By how many megabytes memory grew in any process, from a tenth of its batches to the end."""
        return max((sizes[-1] - max(sizes[: 1 + len(sizes) // 10]) for sizes in self.memory.values()), default=0)


class Bench:
    """One process's decoder."""

    def __init__(self, how: Preprocessing, place: Path, max_pixels: int = MOST_PIXELS) -> None:
        self.decoder = Decoder(how, max_pixels, SECONDS)
        self.shape = how.shape
        self.current = os.open(place / f"{os.getpid()}.number", os.O_RDWR | os.O_CREAT)

    def run(self, seed: int, numbers: range) -> Report:
        report = Report()
        for number in numbers:
            os.pwrite(self.current, f"{number:20}".encode(), 0)
            data = mutant(seed, number)
            began = time.perf_counter()
            code, failure = self.decode(data)
            report.slowest = max(report.slowest, (time.perf_counter() - began, number))
            report.codes[code] += 1
            if failure:
                report.failures.append((number, failure))
        processes = [os.getpid()] + ([self.decoder._child.pid] if self.decoder._child is not None else [])
        report.memory[os.getpid()] = [sum(memory(process, "VmRSS") for process in processes)]
        report.peak = max(memory(process, "VmHWM") for process in processes)
        return report

    def decode(self, data: bytes) -> tuple[str, str]:
        """Return what became of a picture, as a code, and why that is a failure, if it is one."""
        try:
            array = self.decoder.load(data)
        except ImageError as error:
            # A decoder that ended or had to be killed shows a picture whose cost is not bounded before it is decoded.
            wrong = error.code not in CODES or "decoder ended" in error.detail or "was stopped" in error.detail
            return error.code, str(error) if wrong else ""
        except Exception:  # noqa: BLE001
            return "exception", traceback.format_exc()
        fine = array.shape == self.shape and bool(np.isfinite(array).all())
        return "decoded", "" if fine else f"an array of {array.shape}, or not finite"


def memory(process: int, field: str) -> int:
    """Megabytes: VmRSS is what a process has now, VmHWM is the most that it had."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith(f"{field}:")), 0)


_bench: Bench


def _begin(how: Preprocessing, place: Path) -> None:
    global _bench
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with a main process that was killed
    _bench = Bench(how, place)


def _run(seed: int, numbers: range) -> Report:
    return _bench.run(seed, numbers)


def run(count: int, seed: int, processes: int, how: Preprocessing, report: Report) -> Iterator[int]:
    """Fill the report; yields after each batch how many pictures have been tried."""
    batches = [range(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]
    with tempfile.TemporaryDirectory() as place:
        try:
            with ProcessPoolExecutor(processes, get_context("spawn"), _begin, (how, Path(place))) as pool:
                for done in pool.map(_run, [seed] * len(batches), batches):
                    report.add(done)
                    yield report.codes.total()
        except BrokenProcessPool:
            suspects = [int(file.read_text() or -1) for file in Path(place).glob("*.number")]
            report.failures += [(number, "a process died with this picture, or beside it") for number in suspects]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.pictures", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="how many pictures (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which pictures (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--model", type=Path, help="model directory whose input is made (default: 224 x 224)")
    parser.add_argument("--save", type=Path, default=Path(".tierserve/hostile"), help="where failing pictures go")
    options = parser.parse_args()
    how = read_model(options.model).preprocessing if options.model else LITE0
    report, began = Report(), time.monotonic()
    say = sys.stdout.write
    for done in run(options.count, options.seed, options.processes, how, report):
        say(f"{done} of {options.count}, {done / (time.monotonic() - began):.0f}/s\n")
        sys.stdout.flush()
    took, total = time.monotonic() - began, report.codes.total()
    say(f"{total} pictures, seed {options.seed}, {took:.0f} s, {total / took:.0f}/s\n")
    say(", ".join(f"{code} {count}" for code, count in report.codes.most_common()) + "\n")
    say(f"memory: most of a process {report.peak} MB, growth {report.growth()} MB\n")
    say(f"slowest: {report.slowest[0]:.3f} s, number {report.slowest[1]}\n")
    for number, why in report.failures:
        options.save.mkdir(parents=True, exist_ok=True)
        file = options.save / f"{options.seed}-{number}"
        file.write_bytes(mutant(options.seed, number))
        say(f"FAILED {file}: {why}\n")
    return 1 if report.failures or report.growth() > GROWTH_MB or total < options.count else 0


if __name__ == "__main__":
    sys.exit(main())
