"""``make architectures``: which of timm's convolutional networks can be built, and how close they stay to timm.

One small network of each family is trained for some seconds on drawn pictures, and then built from its checkpoint as an
owner's model is. A run that was stopped goes on where it was; a family that fails is a row that says why.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.families import FAMILIES
from benchmarks.machine import machine
from benchmarks.page import write_page
from benchmarks.photos import draw

Row = dict[str, Any]
"""What is known of one family; see ``examine``."""

LEARNED, JUDGED = 100, 50
"""Pictures of each class that are trained with, and that calibrate and judge."""
TIMEOUT = 600.0
"""A family may take so many seconds, and the time of its training."""
PACKAGES = ("timm", "torch", "onnx", "onnxruntime")
ROOT = Path(__file__).resolve().parents[1]


class _Silent:
    """Shows nothing of a build."""

    def step(self, sentence: str, total: int | None = None) -> None:
        """Show nothing."""

    def advance(self, count: int = 1) -> None:
        """Show nothing."""

    def warn(self, sentence: str) -> None:
        """Show nothing; the model has its warnings."""


def examine(family: str, learned: Path, judged: Path, seconds: float, size: int | None = None) -> Row:
    """Train and build the family's network in this process, and return its row.

    ``learned`` and ``judged`` are class folders. ``size`` replaces the side of the input, in pixels. The row has
    ``error``, a sentence, if the network cannot be trained or built.
    """
    import timm

    from benchmarks.training import train
    from model.build.builder import build
    from model.build.errors import BuildError
    from model.build.request import Request

    member = FAMILIES[family]
    row = _begun(family)
    row["size"] = size or member.size
    with tempfile.TemporaryDirectory() as folder:
        try:
            trained = train(learned, Path(folder) / "out", member.architecture, seconds=seconds, size=row["size"])
            row["parameters"] = sum(each.numel() for each in timm.create_model(member.architecture).parameters())
            start = time.monotonic()
            made = build(Request(str(trained.checkpoint), data=judged), Path(folder) / "models", _Silent())
        except BuildError as error:
            return {**row, "error": str(error)}
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:  # what networks raise for their input
            return {**row, "error": f"It cannot be trained: {' '.join(str(error).split())[:200]}"}
        row["seconds"] = time.monotonic() - start
        row["exports"] = any(variant.runtime == "onnx" for variant in made.variants)
        row["timm"] = made.judged["timm"]["top1"]
        row["int8_bits"] = made.build.get("int8_weight_bits")
        row["warnings"] = list(made.warnings)
        for variant in made.variants:
            measured = variant.measured
            row[f"{variant.runtime} {variant.name}"] = {
                "top1": measured.top1,
                "agreement": measured.agreement,
                "ms": measured.ms,
            }
    return row


def apart(family: str, learned: Path, judged: Path, seconds: float, timeout: float = TIMEOUT) -> Row:
    """Do what ``examine`` does, in a process that cannot take this one along; its death is a row too."""
    command = [sys.executable, "-m", "benchmarks.architectures", "--child", family, str(learned), str(judged)]
    command += ["--seconds", str(seconds)]
    with (
        tempfile.TemporaryDirectory(prefix="tierserve-architecture-") as folder,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": folder},  # so that a child that is killed leaves no files behind
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            said, complained = process.communicate(timeout=seconds + timeout)
        except subprocess.TimeoutExpired:
            return {**_begun(family), "error": f"It took longer than {seconds + timeout:g} s."}
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        last = (complained.strip().splitlines() or [""])[-1][:200]
        return {**_begun(family), "error": f"Its process ended with status {process.returncode}: {last}"}
    row: Row = json.loads(said.splitlines()[-1])
    return row


def _begun(family: str) -> Row:
    return {
        "family": family,
        "architecture": FAMILIES[family].architecture,
        "versions": {package: version(package) for package in PACKAGES},
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def kept(results: Path) -> dict[str, Row]:
    """Return the rows of a file of results by family, except those of other versions of timm, torch or ONNX."""
    rows = {}
    for line in results.read_text("utf-8").splitlines() if results.exists() else ():
        row = json.loads(line)
        if row["family"] in FAMILIES and row["versions"] == _begun(row["family"])["versions"]:
            rows[row["family"]] = row
    return rows


def examine_all(families: Iterable[str], results: Path, seconds: float, progress: Progress) -> None:
    """Add a row to the file of results for each family."""
    task = progress.add_task("drawing pictures", total=len(list(families)))
    with tempfile.TemporaryDirectory(prefix="tierserve-pictures-") as folder:
        learned, judged = Path(folder) / "learned", Path(folder) / "judged"
        draw(learned, LEARNED, seed=1)
        draw(judged, JUDGED, seed=2)
        for family in families:
            progress.update(task, description=f"{family} ({FAMILIES[family].architecture})")
            row = apart(family, learned, judged, seconds)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            progress.console.print(f"{family}: {row.get('error', 'done')}", highlight=False, markup=False)
            progress.advance(task)


def _child(family: str, learned: Path, judged: Path, seconds: float) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # remarks of torch and timm about their own deprecations
    print(json.dumps(examine(family, learned, judged, seconds)))


def main() -> None:
    """Examine the families that have no row yet, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.architectures", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=FAMILIES, metavar="FAMILY", help="only these, even if known")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each is trained (default: %(default)s)")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path(".tierserve/architectures.jsonl"),
        help="a file that keeps the rows, so that a run can be stopped; delete it to begin anew (default: %(default)s)",
    )
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "architectures.md", help="default: %(default)s")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        family, learned, judged = options.child
        _child(family, Path(learned), Path(judged), options.seconds)
        return
    options.results.parent.mkdir(parents=True, exist_ok=True)
    wanted = options.only or [family for family in FAMILIES if family not in kept(options.results)]
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        if wanted:
            examine_all(wanted, options.results, options.seconds, progress)
    rows = kept(options.results)
    write_page(options.page, [rows[family] for family in FAMILIES if family in rows])
    print(f"{options.page} has {len(rows)} of {len(FAMILIES)} families")


if __name__ == "__main__":
    main()
