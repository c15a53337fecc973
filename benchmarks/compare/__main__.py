"""Compare tierserve with other model servers that have the same decoder and network inside.

Every server runs in turn, several times, with two workers or lanes. Two bare loops beside each are the limit.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.compare import measuring, serving
from benchmarks.compare.environments import cache, python_of
from benchmarks.compare.measuring import Round
from benchmarks.compare.peers import PEERS, Unavailable
from benchmarks.compare.report import render
from benchmarks.compare.serving import Server, Work
from benchmarks.machine import machine
from benchmarks.picture import picture

TIERS = {"free": ("tf_efficientnet_lite0", "int8"), "premium": ("tf_efficientnet_lite2", "fp32")}
NAMES = ("tierserve", *PEERS)


class Comparison:
    """Runs the rounds in one temporary folder, and leaves out a server that fails."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options, self._folder, self._started = options, folder, 0
        self._picture = folder / "picture.jpg"
        self._picture.write_bytes(picture())
        self._pythons: dict[str, Path] = {}
        self.rounds: list[Round] = []
        self.left_out: dict[str, str] = {}

    def run(self) -> None:
        """Install what is missing, then measure all rounds of all tiers."""
        for name in (name for name in self._options.peers if name in PEERS):
            say(f"installing {name}")
            try:
                self._pythons[name] = python_of(PEERS[name].requirements, cache())
            except Unavailable as error:
                self._leave_out(name, error)
        for tier in TIERS if self._options.tier == "both" else [self._options.tier]:
            work = self._work(tier)
            for number in range(self._options.rounds):
                if names := self._names():
                    self._round(work, number, names)

    def _names(self) -> list[str]:
        return [name for name in self._options.peers if name not in self.left_out]

    def _round(self, work: Work, number: int, names: list[str]) -> None:
        first = number % len(names)  # each round begins with another server
        before = measuring.bare(work, self._picture, self._options.seconds / 2)
        for name in names[first:] + names[:first]:
            say(f"{work.tier}, round {number + 1} of {self._options.rounds}: {name}")
            try:
                with self._server(name, work) as server:
                    loads, kept = measuring.measure(server, self._options.clients, self._options.seconds)
            except Unavailable as error:
                self._leave_out(name, error)
                continue
            after = measuring.bare(work, self._picture, self._options.seconds / 2)
            self.rounds.append(Round(work.tier, number, name, before.between(after), kept, loads))
            before = after

    def _server(self, name: str, work: Work) -> AbstractContextManager[Server]:
        self._started += 1
        folder = self._folder / f"server{self._started}"
        if name in PEERS:
            return serving.another(PEERS[name], self._pythons[name], work, folder)
        return serving.tierserve(work, folder)

    def _work(self, tier: str) -> Work:
        model, variant = TIERS[tier]
        home = self._options.models / model
        environment = {**os.environ, "COMPARE_MODEL": str(home), "COMPARE_VARIANT": variant}
        command = [sys.executable, "-m", "benchmarks.compare.engine", str(self._picture)]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
        return Work(tier, self._options.models, model, variant, self._picture.read_bytes(), said.stdout.strip())

    def _leave_out(self, name: str, error: Unavailable) -> None:
        self.left_out[name] = str(error)
        say(f"{name} is left out: it {error}")


def say(line: str) -> None:
    """Tell the reader how far it is."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Compare, print the table or JSON, and return 1 if tierserve itself could not be measured."""
    options = _options()
    signal.signal(signal.SIGTERM, _ended)
    with tempfile.TemporaryDirectory(prefix="tierserve-compare-", dir=options.models.parent) as folder:
        comparison = Comparison(options, Path(folder))
        comparison.run()
    if options.json:
        rounds = [dataclasses.asdict(each) for each in comparison.rounds]
        print(json.dumps({"machine": machine(), "rounds": rounds, "left_out": comparison.left_out}, indent=1))
    else:
        print(f"on {machine()}\n\n{render(comparison.rounds, comparison.left_out)}")
    return int("tierserve" in comparison.left_out)


def _ended(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second signal would cut off the end of the servers
    sys.exit(128 + number)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path(".tierserve/models"), help="default: %(default)s")
    parser.add_argument(
        "--rounds", type=int, default=5, help="how often each server is measured (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement (default: %(default)s)")
    parser.add_argument(
        "--peers", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME", help=f"some of: {', '.join(NAMES)}"
    )
    parser.add_argument(
        "--clients", nargs="+", type=int, choices=(1, 32, 256), default=[1, 32, 256], help="default: 1 32 256"
    )
    parser.add_argument("--tier", choices=(*TIERS, "both"), default="both", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print every measurement as JSON instead of the table")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
