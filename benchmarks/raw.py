"""The raw limits: a bare loop that decodes and predicts in a process of its own, and a durable write of a picture."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

WARM_UP = 20


def loop(model: Path, variant: str, picture: Path, seconds: float) -> list[float]:
    """Decode and classify the picture again and again; returns how many seconds each round took."""
    from model.images import load
    from model.runtimes.base import read_model
    from model.runtimes.onnx import OnnxRuntime

    description = read_model(model)
    runtime = OnnxRuntime()
    runtime.setup(description, variant)
    data = picture.read_bytes()
    rounds: list[float] = []
    end = 0.0
    while len(rounds) < WARM_UP or time.perf_counter() < end:
        began = time.perf_counter()
        runtime.predict([load(data, description.preprocessing, 40_000_000)])
        rounds.append(time.perf_counter() - began)
        if len(rounds) == WARM_UP:  # the first rounds are slower, so time begins after them
            end = time.perf_counter() + seconds
    return rounds[WARM_UP:]


def loops(processes: int, model: Path, variant: str, picture: Path, seconds: float) -> tuple[float, float]:
    """Run several loops at once; returns the pictures a second of all of them, and the median seconds of a round."""
    command = [sys.executable, "-m", "benchmarks.raw", str(model), variant, str(picture), str(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
    rounds = [json.loads(process.communicate(timeout=seconds + 60)[0]) for process in running]
    return sum(len(each) / sum(each) for each in rounds), median(took for each in rounds for took in each)


def first_class(model: Path, variant: str, picture: Path) -> float:
    """How many seconds a bare process takes from its start to the class of its first picture."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "benchmarks.raw", str(model), variant, str(picture), "first"], check=True)
    return time.perf_counter() - began


def durable_writes(folder: Path, size: int, seconds: float) -> float:
    """How many times a second ``size`` bytes are synced to a new file and a row is committed in SQLite (WAL, FULL)."""
    data = os.urandom(size)
    database = sqlite3.connect(folder / "raw.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE kept (id INTEGER PRIMARY KEY, path TEXT)")
    count, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        path = folder / str(count)
        with path.open("wb", buffering=0) as file:
            file.write(data)
            os.fdatasync(file.fileno())
        database.execute("INSERT INTO kept (path) VALUES (?)", (str(path),))
        count += 1
    database.close()
    return count / took


if __name__ == "__main__":
    directory, chosen, file, duration = sys.argv[1:]
    if duration == "first":
        from model.images import load
        from model.runtimes.base import read_model
        from model.runtimes.onnx import OnnxRuntime

        known = read_model(Path(directory))
        first = OnnxRuntime()
        first.setup(known, chosen)
        first.predict([load(Path(file).read_bytes(), known.preprocessing, 40_000_000)])
    else:
        print(json.dumps(loop(Path(directory), chosen, Path(file), float(duration))))
