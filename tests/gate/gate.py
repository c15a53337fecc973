"""Runs one suite after another, and gives a few failed tests a second chance."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tests.gate.suite import Result, Say, Suite, run, run_alone
from tests.gate.summary import clock, counted, summary

MOST_AGAIN = 3
SIGN_SECONDS = 60.0


def check(suites: Sequence[Suite], logs: Path, say: Say, every: float = SIGN_SECONDS) -> bool:
    """Run all suites, print their results, and return whether all passed. ``logs`` is an empty folder."""
    results: list[Result] = []
    for suite in suites:
        say(f"{suite.name}: begins, its output is in {logs / suite.name / 'output.txt'}")
        result = run(suite, logs / suite.name, _signs(suite.name, say), every)
        results.append(result)
        say(f"{suite.name}: {counted(result)}, in {clock(result.seconds)}")
        if suite.alone and result.failures:
            earlier = sum(len(other.again) for other in results)  # MOST_AGAIN is for all suites together
            _again(suite, result, MOST_AGAIN - earlier, say, every)
        if suite.vital and not result.passed:
            result.notes.append(f"{suite.name} failed: nothing was run after it")
            break
    lines = summary(results, logs)
    (logs / "summary.txt").write_text("\n".join(lines) + "\n")
    for line in lines:
        say(line)
    return all(result.passed for result in results)


def _again(suite: Suite, result: Result, most: int, say: Say, every: float) -> None:
    """Run failed tests once more, each alone, unless they are too many or something other than tests failed."""
    failures = result.failures
    if result.trouble or any(not case.id for case in failures):
        result.notes.append(f"{suite.name}: not only tests failed, so none was run again")
    elif len(failures) > most:
        result.notes.append(
            f"{suite.name}: more than {MOST_AGAIN} tests failed in this run, so these were not run again"
        )
    else:
        for number, case in enumerate(failures, start=1):
            name = f"{suite.name}-alone-{number}"
            say(f"{name}: {case.id} failed and is run alone")
            again = run_alone(suite, case.id, result.folder.with_name(name), _signs(name, say), every)
            result.again[case.id] = again
            say(f"{name}: {'passed' if again.passed else 'failed'}, in {clock(again.seconds)}")


def _signs(name: str, say: Say) -> Say:
    """Makes the messages which show that a suite still runs, each with the last line of its output."""
    began = time.monotonic()
    return lambda line: say(f"{name}: at work for {clock(time.monotonic() - began)}: {line}")
