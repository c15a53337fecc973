"""``python -m benchmarks.batches``: pictures a second through a worker in batches, against a bare loop of batches.

The worker is a process that gets its predictions over a channel, one picture each, from a server that always has more.
The bare loop decodes the next batch in as many threads while the runtime classifies the one before; it has no channel,
no leases and no JSON. Both take turns, so that what else the machine does meets both. The processor time for a picture
says more on a busy machine: the server's is not counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from statistics import median

import psutil
from websockets.exceptions import ConnectionClosed

from benchmarks.picture import picture
from tests.model.channel_server import Visit, serving

WARM_UP_SECONDS = 3.0
FRAME_PICTURES = 50  # of 150 KB each: a frame has at most 8 MiB
TARGET = 0.85

Figures = tuple[float, float]  # pictures per second, and seconds of processor time for a picture


class Source:
    """Gives a worker as many predictions as it asks for, accepts all results, and counts them."""

    def __init__(self, body: bytes, seconds: float) -> None:
        self._body, self._seconds = body, seconds
        self._numbers = itertools.count()
        self.worker: psutil.Popen | None = None
        self.figures: Figures = (0.0, 0.0)

    def visit(self, visit: Visit) -> None:
        """Work until the time is over; then ``figures`` has those after the warming up."""
        visit.say(renew=20, lost=[])
        self._give(visit, visit.first.get("credits", 0), [])
        done, begin, end, used = 0, time.perf_counter() + WARM_UP_SECONDS, 0.0, 0.0
        try:
            while True:
                message = visit.hear()
                now = time.perf_counter()
                results = message.get("completions", ())
                if any("error" in picture for one in results for picture in one["results"]):
                    raise RuntimeError(f"a picture failed: {results}")
                done += len(results) if end else 0
                if not end and now >= begin and results:  # counting begins with an arrival, and ends with one
                    begin, end, used = now, now + self._seconds, self._processor_time()
                elif end and now >= end and results:
                    self.figures = done / (now - begin), (self._processor_time() - used) / done
                    visit.close(4410, "the measurement is over")
                    return
                self._give(visit, message.get("credits", 0), [[one["id"], "accepted"] for one in results])
        except ConnectionClosed:
            return

    def _processor_time(self) -> float:
        assert self.worker is not None
        times = self.worker.cpu_times()
        return float(times.user + times.system)

    def _give(self, visit: Visit, many: int, outcomes: list[list[str]]) -> None:
        if not many and outcomes:
            visit.say(outcomes=outcomes)
        while many:
            some = min(many, FRAME_PICTURES)
            names = [f"p{next(self._numbers)}" for _ in range(some)]
            visit.give(*names, picture=self._body, outcomes=outcomes)
            many, outcomes = many - some, []


def through_worker(options: argparse.Namespace, body: bytes) -> Figures:
    """Return the figures of a worker process."""
    source = Source(body, options.seconds)
    command = [sys.executable, "-m", "model", "work", "--model", options.model, "--runtime", "timm"]
    command += ["--device", options.device, "--batch", str(options.batch), "--models", str(options.models)]
    with serving(source.visit) as server:
        environment = {**os.environ, "TIERSERVE_SERVER": server.url, "TIERSERVE_TOKEN": "token"}
        worker = source.worker = psutil.Popen([*command, "--max-predictions", "100000000"], env=environment)
        try:
            server.results.get(timeout=options.seconds + 180)
            worker.wait(30)
        finally:
            with suppress(psutil.NoSuchProcess):
                worker.kill()
                worker.wait()
    return source.figures


def bare_loop(options: argparse.Namespace, body: bytes) -> Figures:
    """Return the figures of a process that only decodes and classifies batches."""
    command = [sys.executable, "-m", "benchmarks.batches", "--bare", *_arguments(options)]
    done = subprocess.run(command, input=body, stdout=subprocess.PIPE, check=True, timeout=options.seconds + 180)
    rate, used = json.loads(done.stdout)
    return rate, used


def _bare(options: argparse.Namespace, body: bytes) -> Figures:
    from model.decoders import processors
    from model.images import load
    from model.runtimes.base import read_model
    from model.runtimes.timm import TimmRuntime

    model, runtime = read_model(options.models / options.model), TimmRuntime()
    runtime.setup(model, "fp32", options.device)
    done, begin, end, used = 0, time.perf_counter() + WARM_UP_SECONDS, 0.0, 0.0
    with ThreadPoolExecutor(min(processors(), options.batch)) as pool:

        def decode() -> Iterator[object]:
            return pool.map(lambda _: load(bytes(body), model.preprocessing, 24_000_000), range(options.batch))

        coming = decode()
        while True:
            batch, coming = list(coming), decode()
            done += len(runtime.predict(batch))  # type: ignore[arg-type]
            now = time.perf_counter()
            if not end and now >= begin:
                done, begin, end, used = 0, now, now + options.seconds, time.process_time()
            elif end and now >= end:
                return done / (now - begin), (time.process_time() - used) / done


def _arguments(options: argparse.Namespace) -> list[str]:
    named = {name: str(getattr(options, name)) for name in ("models", "model", "device", "batch", "seconds")}
    return [part for name, value in named.items() for part in (f"--{name}", value)]


def main() -> None:
    """Measure in pairs, and print each, and the median of the ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batches", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path(".tierserve/models"), help="default: %(default)s")
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        print(json.dumps(_bare(options, sys.stdin.buffer.read())))
        return
    body, ratios, times = picture(), [], []
    print(f"{options.model}, timm on {options.device}, batches of {options.batch} at most")
    for _ in range(options.pairs):
        (bare, bare_time), (worker, time_) = bare_loop(options, body), through_worker(options, body)
        ratios.append(worker / bare)
        times.append(bare_time / time_)
        print(f"pictures/s: worker {worker:.1f}, bare loop {bare:.1f}, ratio {ratios[-1]:.2f}; ", end="")
        print(f"processor ms: {1000 * time_:.2f}, {1000 * bare_time:.2f}, ratio {times[-1]:.2f}", flush=True)
    print(f"median ratio {median(ratios):.2f}, target {TARGET}; of processor times {median(times):.2f}")


if __name__ == "__main__":
    main()
