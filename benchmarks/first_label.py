"""``python -m benchmarks.first_label``: from a fresh clone with empty caches to the first label, step by step.

What is committed here is cloned into an empty folder. There ``make run`` runs with empty caches of pip and uv, and then
the cat is sent. Limits of the same machine are measured right after.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table

from benchmarks import raw
from benchmarks.machine import machine
from benchmarks.picture import SOURCE
from tests.running import ROOT, Client, free_port

SECONDS, MEGABYTES = 40.0, 200.0  # at most
MOST_SECONDS = 1200.0
PAUSE = 0.01
FREE = ("tf_efficientnet_lite0", "int8")
# How many pictures a build shows to each file of a default model.
JUDGED = {"model.onnx": 264, "model-int8.onnx": 132}


@dataclass(frozen=True, slots=True)
class Row:
    """A step of the way, its seconds, and what the machine needs for the heart of it alone."""

    step: str
    seconds: float
    limit: float | None
    heart: str


class Way:
    """A fresh clone in ``folder``, on the way to its first label."""

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self._folder, self._tell = folder, tell
        self.checkout = folder / "checkout"
        self.environment = self.checkout / ".venv"
        self.models = self.checkout / ".tierserve" / "models"
        self._log = folder / "log"
        self.rows: list[Row] = []
        self.received = 0

    def go(self) -> None:
        """Walk the whole way. Raises ``RuntimeError`` when a step does not come to its end."""
        subprocess.run(["git", "clone", "-q", str(ROOT), str(self.checkout)], check=True, timeout=60)
        before = received()
        with self._running() as (client, ended):
            self._step("virtual environment", lambda: b"installing " in self._log.read_bytes(), ended)
            self._step("uv", (self.environment / "bin" / "uv").exists, ended)
            self._step("packages", (self.checkout / ".venv" / ".run").exists, ended)
            self._step("models", (self.models / ".built").exists, ended)
            self._step("server", lambda: _ready(client), ended)
            self._step("first label", lambda: _labelled(client), ended)
        self.received = received() - before

    def limits(self) -> None:
        """Measure what the heart of each step takes alone, and add it to the rows."""
        alone = {
            "virtual environment": (self._bare_environment, "venv without pip"),
            "packages": (self._bare_packages, "uv, of the same packages"),
            "models": (lambda: passes(self.models), "ONNX Runtime, of the same pictures"),
            "first label": (
                lambda: raw.first_class(self.models / FREE[0], FREE[1], SOURCE),
                "a process with one picture",
            ),
        }
        for number, row in enumerate(self.rows):
            if row.step in alone:
                measure, heart = alone[row.step]
                self._tell(f"{row.step}, alone")
                self.rows[number] = Row(row.step, row.seconds, measure(), heart)

    @contextmanager
    def _running(self) -> Iterator[tuple[Client, Callable[[], bool]]]:
        client = Client(free_port())
        command = ["make", "run", f"PORT={client.port}", f"INTERNAL_PORT={free_port()}"]
        self._began = time.monotonic()
        with self._log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=self.checkout,
                env=fresh(self._folder / "caches"),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            yield client, lambda: process.poll() is not None
        except RuntimeError as error:
            raise RuntimeError(f"{error}; it said:\n{self._log.read_text(errors='replace')[-3000:]}") from error
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)

    def _step(self, name: str, reached: Callable[[], bool], ended: Callable[[], bool]) -> None:
        self._tell(name)
        while not reached():
            if ended():
                raise RuntimeError(f"make run ended before the step {name!r} was done")
            if time.monotonic() - self._began > MOST_SECONDS:
                raise RuntimeError(f"the step {name!r} was not done within {MOST_SECONDS:g} s")
            time.sleep(PAUSE)
        now = time.monotonic()
        self.rows.append(Row(name, now - self._began - sum(row.seconds for row in self.rows), None, ""))

    def _bare_environment(self) -> float:
        return _timed([sys.executable, "-m", "venv", "--without-pip", str(self._folder / "bare")], self.checkout, None)

    def _bare_packages(self) -> float:
        tools, environment = self.environment / "bin", fresh(self._folder / "more-caches")
        freeze = [str(tools / "uv"), "pip", "freeze", "-q", "--python", str(tools / "python"), "--exclude-editable"]
        found = subprocess.run(freeze, capture_output=True, text=True, check=True, timeout=60).stdout
        wanted = self._folder / "packages.txt"
        wanted.write_text("".join(line for line in found.splitlines(keepends=True) if not line.startswith("pip==")))
        bare = str(self._folder / "bare" / "bin" / "python")
        command = ["sh", "docker/install.sh", str(tools), bare, "-q", "--no-deps", "-r", str(wanted)]
        return _timed(command, self.checkout, environment)


def fresh(caches: Path) -> dict[str, str]:
    """The environment variables of this process, less those of its Python, with empty caches of pip and uv."""
    ours = ("PYTHON", "VIRTUAL_ENV", "TIERSERVE_", "OMP_", "MAKE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PIP_CACHE_DIR": str(caches / "pip"), "UV_CACHE_DIR": str(caches / "uv")}


def received() -> int:
    """How many bytes this machine has received from others, whoever asked for them."""
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    fields = (line.replace(":", " ").split() for line in lines)
    return sum(int(field[1]) for field in fields if field[0] != "lo")


def passes(models: Path) -> float:
    """Seconds that ONNX Runtime takes to run as many pictures as the builds of all default models show it.

    Each session has one thread, and as many pictures as there are processors are under way at once.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    files = sorted(file for name in JUDGED for file in models.glob(f"*@*/{name}"))
    sessions = [(onnxruntime.InferenceSession(file, options), JUDGED[file.name]) for file in files]
    began = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for session, count in sessions:
            (given,) = session.get_inputs()
            picture = {given.name: np.zeros(given.shape, np.float32)}
            list(pool.map(lambda _, run=session.run, picture=picture: run(None, picture), range(count)))
    return time.perf_counter() - began


def _ready(client: Client) -> bool:
    try:
        return client.get("/readyz").status == 200
    except (OSError, HTTPException):
        return False


def _labelled(client: Client) -> bool:
    answer = client.post("free", SOURCE.read_bytes())
    if answer.status != 200:
        raise RuntimeError(f"the cat was answered with {answer.status}: {answer.body[:300]!r}")
    return bool(answer.json["results"][0]["labels"])


def _timed(command: list[str], folder: Path, environment: Mapping[str, str] | None) -> float:
    began = time.monotonic()
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=MOST_SECONDS)
    return time.monotonic() - began


def main() -> None:
    """Walk the way once, and print a table of its steps."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_label", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, help="where an empty folder is made (default: where temporary files are)"
    )
    parser.add_argument("--keep", action="store_true", help="keep that folder, with the log of make run")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tierserve-first-", dir=options.folder))
    try:
        way = Way(folder, lambda what: Console(stderr=True).print(what, style="dim"))
        way.go()
        way.limits()
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    whole, megabytes = sum(row.seconds for row in way.rows), way.received / 1e6
    table = Table("step", "s", "limit, s", "of what", title=machine())
    for row in way.rows:
        table.add_row(row.step, f"{row.seconds:.1f}", "" if row.limit is None else f"{row.limit:.1f}", row.heart)
    verdict = "met" if whole <= SECONDS else "missed"
    table.add_row("in all", f"{whole:.1f}", f"{SECONDS:.0f}", f"the target, {verdict}", style="bold")
    Console().print(table)
    verdict = "met" if megabytes <= MEGABYTES else "missed"
    print(f"{megabytes:.0f} MB were received, of at most {MEGABYTES:.0f}: {verdict}")


if __name__ == "__main__":
    main()
