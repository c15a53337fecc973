"""``python -m benchmarks.batches``: pictures a second through a worker in batches, against a bare loop of batches.

The worker is a process that gets its predictions over a channel, one picture each, from a server that always has more.
The bare loop decodes the next batch in as many threads while the runtime classifies the one before; it has no channel,
no leases and no JSON. Both take turns, so that what else the machine does meets both.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from websockets.exceptions import ConnectionClosed

from benchmarks.picture import picture
from tests.model.channel_server import Visit, serving

WARM_UP_SECONDS = 3.0
FRAME_PICTURES = 50  # of 150 KB each: a frame has at most 8 MiB
TARGET = 0.85


class Source:
    """Gives a worker as many predictions as it asks for, accepts all results, and counts them."""

    def __init__(self, body: bytes, seconds: float) -> None:
        self._body, self._seconds = body, seconds
        self._numbers = itertools.count()
        self.rate = 0.0

    def visit(self, visit: Visit) -> None:
        """Work until the time is over; then ``rate`` has the pictures per second after the warming up."""
        visit.say(renew=20, lost=[])
        self._give(visit, visit.first.get("credits", 0), [])
        done, begin, end = 0, time.perf_counter() + WARM_UP_SECONDS, 0.0
        try:
            while True:
                message = visit.hear()
                now = time.perf_counter()
                results = message.get("completions", ())
                if any("error" in picture for one in results for picture in one["results"]):
                    raise RuntimeError(f"a picture failed: {results}")
                done += len(results) if end else 0
                if not end and now >= begin and results:  # counting begins with an arrival, and ends with one
                    begin, end = now, now + self._seconds
                elif end and now >= end and results:
                    self.rate = done / (now - begin)
                    visit.close(4410, "the measurement is over")
                    return
                self._give(visit, message.get("credits", 0), [[one["id"], "accepted"] for one in results])
        except ConnectionClosed:
            return

    def _give(self, visit: Visit, many: int, outcomes: list[list[str]]) -> None:
        if not many and outcomes:
            visit.say(outcomes=outcomes)
        while many:
            some = min(many, FRAME_PICTURES)
            names = [f"p{next(self._numbers)}" for _ in range(some)]
            visit.give(*names, picture=self._body, outcomes=outcomes)
            many, outcomes = many - some, []


def through_worker(options: argparse.Namespace, body: bytes) -> float:
    """Return the pictures per second of a worker process."""
    source = Source(body, options.seconds)
    command = [sys.executable, "-m", "model", "work", "--model", options.model, "--runtime", "timm"]
    command += ["--device", options.device, "--batch", str(options.batch), "--models", str(options.models)]
    with serving(source.visit) as server:
        environment = {**os.environ, "TIERSERVE_SERVER": server.url, "TIERSERVE_TOKEN": "token"}
        worker = subprocess.Popen([*command, "--max-predictions", "100000000"], env=environment)
        try:
            server.results.get(timeout=options.seconds + 180)
            worker.wait(30)
        finally:
            worker.kill()
            worker.wait()
    return source.rate


def bare_loop(options: argparse.Namespace, body: bytes) -> float:
    """Return the pictures per second of a process that only decodes and classifies batches."""
    command = [sys.executable, "-m", "benchmarks.batches", "--bare", *_arguments(options)]
    done = subprocess.run(command, input=body, stdout=subprocess.PIPE, check=True, timeout=options.seconds + 180)
    return float(done.stdout)


def _bare(options: argparse.Namespace, body: bytes) -> float:
    from model.decoders import processors
    from model.images import load
    from model.runtimes.base import read_model
    from model.runtimes.timm import TimmRuntime

    model, runtime = read_model(options.models / options.model), TimmRuntime()
    runtime.setup(model, "fp32", options.device)
    done, begin, end = 0, time.perf_counter() + WARM_UP_SECONDS, 0.0
    with ThreadPoolExecutor(min(processors(), options.batch)) as pool:

        def decode() -> Iterator[object]:
            return pool.map(lambda _: load(bytes(body), model.preprocessing, 24_000_000), range(options.batch))

        coming = decode()
        while True:
            batch, coming = list(coming), decode()
            done += len(runtime.predict(batch))  # type: ignore[arg-type]
            now = time.perf_counter()
            if not end and now >= begin:
                done, begin, end = 0, now, now + options.seconds
            elif end and now >= end:
                return done / (now - begin)


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
        print(_bare(options, sys.stdin.buffer.read()))
        return
    body, ratios = picture(), []
    print(f"{options.model}, timm on {options.device}, batches of {options.batch} at most, pictures/s")
    for _ in range(options.pairs):
        bare, worker = bare_loop(options, body), through_worker(options, body)
        ratios.append(worker / bare)
        print(f"worker {worker:.1f}, bare loop {bare:.1f}, ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {median(ratios):.2f}, target {TARGET}")


if __name__ == "__main__":
    main()
