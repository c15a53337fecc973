"""A suite: a command whose output goes to a file. If it takes too long, it is ended with all that it started."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.gate.report import Case, Verdict, lines, read
from tests.running import ROOT

END_SECONDS = 60.0
TAIL_BYTES = 65536
SIGN_WIDTH = 100
TESTS_FAILED = 1
MAKE_STATUS = re.compile(r"make(?:\[\d+\])?: \*\*\* .* Error (\d+)$", re.MULTILINE)

Say = Callable[[str], None]
Words = Sequence[str]


@dataclass(frozen=True, slots=True)
class Suite:
    """How a suite is run. ``command`` takes options for pytest; ``alone`` takes the node id of one test and options.

    Without ``alone`` no test gets a second chance. Nothing is run after a ``vital`` suite that fails. ``clusters`` are
    folders whose ``logs`` the next run would overwrite.
    """

    name: str
    command: Callable[[Words], Words]
    alone: Callable[[str, Words], Words] | None = None
    tests: bool = True
    vital: bool = False
    seconds: float = 1800.0
    clusters: Sequence[Path] = ()
    checkout: Path = ROOT


@dataclass(slots=True)
class Result:
    """The result of a suite. ``trouble`` says what went wrong apart from failed tests."""

    name: str
    folder: Path
    seconds: float = 0.0
    trouble: str = ""
    cases: list[Case] = field(default_factory=list)
    again: dict[str, Result] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def output(self) -> Path:
        """The file with all its output."""
        return self.folder / "output.txt"

    @property
    def flaky(self) -> list[Case]:
        """The tests that failed at first and passed alone."""
        return [case for case in self.failures if case.id in self.again and self.again[case.id].passed]

    @property
    def failed(self) -> list[Case]:
        """The tests that failed, and did not pass alone."""
        flaky = self.flaky
        return [case for case in self.failures if case not in flaky]

    @property
    def failures(self) -> list[Case]:
        """The tests that failed at first."""
        return self.having(Verdict.FAILED)

    @property
    def passed(self) -> bool:
        """Whether nothing failed for good."""
        return not self.trouble and not self.failed

    def having(self, verdict: Verdict) -> list[Case]:
        """The tests with this verdict."""
        return [case for case in self.cases if case.verdict is verdict]


def run(suite: Suite, folder: Path, say: Say, every: float) -> Result:
    """Run a suite once. Its output, its report and the files that its tests leave are in the folder."""
    return _run(suite, suite.command(_options(folder)), folder, say, every)


def run_alone(suite: Suite, test: str, folder: Path, say: Say, every: float) -> Result:
    """Run one test of a suite in a process of its own."""
    assert suite.alone is not None
    found = _run(suite, suite.alone(test, _options(folder)), folder, say, every)
    if not found.trouble and [case.id for case in found.having(Verdict.PASSED)] != [test]:
        found.trouble = "it did not run alone"
    return found


def _run(suite: Suite, words: Words, folder: Path, say: Say, every: float) -> Result:
    folder.mkdir()
    result, began, at = Result(name=suite.name, folder=folder), time.monotonic(), time.time()
    status = _execute(suite, words, result.output, every, say)
    result.seconds = time.monotonic() - began
    report = read(folder / "report.xml", suite.checkout) if suite.tests else []
    result.cases = report or []
    if status is None:
        result.trouble = f"not done within {suite.seconds:g} s"
    elif report is None:
        result.trouble = f"ended with {status} and left no report"
    elif not (status == 0 or (status == TESTS_FAILED and result.failures)):
        result.trouble = f"ended with {status}"
    elif suite.tests and not report:
        result.trouble = "no test ran"
    if result.passed:
        shutil.rmtree(folder / "tmp", ignore_errors=True)
    else:
        _keep_logs(suite.clusters, folder, at)
    return result


def _options(folder: Path) -> list[str]:
    words = [
        f"--junitxml={folder / 'report.xml'}",
        f"--basetemp={folder / 'tmp'}",
        "--tb=short",
        "--show-capture=stdout",
    ]
    return [*words, "-o", "junit_logging=system-out"]


def _execute(suite: Suite, words: Words, output: Path, every: float, say: Say) -> int | None:
    """Run a command; returns its status, or ``None`` if it took too long."""
    end, environment = time.monotonic() + suite.seconds, os.environ | {"TIERSERVE_LOGS": str(output.parent)}
    with output.open("wb") as file:
        process = subprocess.Popen(
            words,
            cwd=suite.checkout,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment,
            start_new_session=True,
        )
    try:
        while (left := end - time.monotonic()) > 0:
            with suppress(subprocess.TimeoutExpired):
                return _status(process.wait(min(every, left)), output)
            say(" ".join(tail(output, 2))[-SIGN_WIDTH:] or "no output yet")
        return None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a command, so that it cleans up and reports, then kill what is left of it."""
    with suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)  # also after a good end, because tests may leave processes
    process.wait()


def _status(status: int, output: Path) -> int:
    """The status of the command that make ran. make's own status is 2 after any error."""
    told = MAKE_STATUS.findall("\n".join(tail(output, 3))) if status else []
    return int(told[0]) if told else status


def tail(path: Path, count: int) -> list[str]:
    """The last lines of a file that are not empty."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return lines(file.read().decode(errors="replace"))[-count:]


def _keep_logs(clusters: Sequence[Path], folder: Path, since: float) -> None:
    for cluster in clusters:
        logs = cluster / "logs"
        if logs.is_dir() and logs.stat().st_mtime >= since:
            shutil.move(logs, folder / f"cluster-{cluster.name}")


def make(target: str) -> Callable[[Words], Words]:
    """Makes the command ``make TARGET`` with options for pytest."""
    return lambda options: ["make", "--no-print-directory", target, f"ARGS={_quoted(options)}"]


def make_one(test: str, options: Words) -> Words:
    """The command ``make test-one`` for a test, with options for pytest."""
    return ["make", "--no-print-directory", "test-one", f"TEST={test.replace('$', '$$')}", f"ARGS={_quoted(options)}"]


def _quoted(options: Words) -> str:
    return shlex.join(options).replace("$", "$$")
