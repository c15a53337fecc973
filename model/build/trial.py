"""Measure a variant in a process of its own, which does with each picture what a worker does.

The process is ``python -m model.build.trial DIRECTORY RUNTIME VARIANT PICTURES``, where ``PICTURES`` is a folder of
files. It prints a line of JSON: what ``Speed`` has, or ``error``, a sentence.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

from model.build.errors import BuildError
from model.build.pictures import MOST_PIXELS, Picture
from model.images import ImageError, load
from model.runtimes import named
from model.runtimes.base import Model, ModelError, Runtime, read_model
from model.trial import check

PICTURES = 32
WARM_UP = 3
LEAST_PICTURES, LEAST_SECONDS, MOST_SECONDS = 20, 0.5, 10.0

_LIKE_A_WORKER = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}  # as in jobtemplates/base.yaml.j2


@dataclass(frozen=True, slots=True)
class Speed:
    """What a variant takes on this machine, in one process of one thread."""

    ms: float
    """Median milliseconds from a picture's bytes to its probabilities."""
    images_per_second: float
    """How many pictures it classifies in a second."""
    memory_mb: float
    """Peak memory of the process, in MB (10^6 bytes)."""


def measure(directory: Path, runtime: str, variant: str, pictures: Sequence[Picture], timeout: float) -> Speed:
    """Run the variant of a model directory over some of ``pictures``, at least one, for half a second or longer.

    Raises ``BuildError`` if it takes longer than ``timeout`` seconds, crashes, or gives anything but a probability for
    each class.
    """
    what = f"The variant {runtime}/{variant}"
    with tempfile.TemporaryDirectory(prefix="trial-") as folder:
        for number, picture in enumerate(pictures[:: max(1, len(pictures) // PICTURES)][:PICTURES]):
            (Path(folder) / f"{number:02}").write_bytes(picture.read())
        command = [sys.executable, "-m", "model.build.trial", str(directory), runtime, variant, folder]
        try:
            # run() kills the process also when this one is interrupted.
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                env=os.environ | _LIKE_A_WORKER,
            )
        except subprocess.TimeoutExpired as error:
            raise BuildError(f"{what} was tried as a worker runs it, and took longer than {timeout:g} s.") from error
    return _speed(done, what)


def _speed(done: "subprocess.CompletedProcess[str]", what: str) -> Speed:
    told = json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else None
    if told is None:
        lines = done.stderr.strip().splitlines()
        last = f" Its last words: {lines[-1][:300]}" if lines else ""
        raise BuildError(f"{what} was tried as a worker runs it, and ended with status {done.returncode}.{last}")
    if "error" in told:
        raise BuildError(f"{what} was tried as a worker runs it: {told['error']}")
    return Speed(**told)


def main(directory: str, runtime: str, variant: str, folder: str) -> None:
    """Print what ``measure`` asks for."""
    try:
        model = read_model(Path(directory))
        running = named(runtime)
        running.setup(model, variant)
        told = asdict(_time(model, running, sorted(Path(folder).iterdir()), time.perf_counter))
    except (ModelError, ImageError) as error:
        told = {"error": str(error)}
    sys.stdout.write(json.dumps(told) + "\n")


def _time(model: Model, runtime: Runtime, files: Sequence[Path], clock: Callable[[], float]) -> Speed:
    """Classify the files, again and again, until it is known how long one takes."""
    endless = cycle(files)
    for file in islice(endless, WARM_UP):
        _classify(model, runtime, file.read_bytes())
    taken: list[float] = []
    while not _enough(len(taken), sum(taken)):
        data = next(endless).read_bytes()
        began = clock()
        _classify(model, runtime, data)
        taken.append(clock() - began)
    return Speed(1000 * statistics.median(taken), len(taken) / sum(taken), _peak_memory())


def _enough(pictures: int, seconds: float) -> bool:
    return seconds >= MOST_SECONDS or (pictures >= LEAST_PICTURES and seconds >= LEAST_SECONDS)


def _classify(model: Model, runtime: Runtime, data: bytes) -> None:
    (logits,) = runtime.predict([load(data, model.preprocessing, MOST_PIXELS)])
    check(logits, len(model.labels))


def _peak_memory() -> float:
    # Not getrusage(): a process that was started by a larger one inherits its peak there.
    lines: Iterable[str] = Path("/proc/self/status").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(kibibytes) * 1024 / 1e6


if __name__ == "__main__":
    main(*sys.argv[1:])
