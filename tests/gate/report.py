"""Reads pytest's report of its tests, the XML that ``--junitxml`` writes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

WIDTH = 180
SHARE_OF_PRINTED = 3  # a third of the lines is for what a test printed, the rest for its traceback


class Verdict(Enum):
    """How a test ended. A test whose setup or cleanup broke has failed."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Case:
    """A test, with ``id`` as its node id. It may also be a module that cannot be imported, which has no ``id``."""

    name: str
    id: str
    verdict: Verdict
    seconds: float
    reason: str = ""
    traceback: str = ""
    printed: str = ""

    def tail(self, most: int) -> list[str]:
        """The end of the test's own output: what it printed, then the end of its traceback."""
        printed, traceback = lines(self.printed), lines(self.traceback)
        spared = max(most // SHARE_OF_PRINTED, most - len(traceback))
        kept = printed[-spared:] if spared > 0 else []
        return [*kept, *traceback[-(most - len(kept)) :]]


def read(path: Path, checkout: Path) -> list[Case] | None:
    """Read a report of the tests of a checkout. Returns ``None`` if there is no complete report."""
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError):
        return None
    found: dict[str, list[ET.Element]] = {}
    for element in root.iter("testcase"):  # a test that fails both in itself and in its teardown has two elements
        found.setdefault(_name(element, checkout), []).append(element)
    ended = sum(int(suite.get("tests", 0)) for suite in root.iter("testsuite"))
    if len(found) > ended:
        found.popitem()  # the last one was interrupted
    return [_case(name, elements) for name, elements in found.items()]


def lines(text: str) -> list[str]:
    """The lines of a text that are not empty, cut to the width of a screen."""
    return [line.rstrip()[:WIDTH] for line in text.splitlines() if line.strip()]


def _case(name: str, elements: list[ET.Element]) -> Case:
    problems = [problem for element in elements for kind in ("failure", "error") for problem in element.findall(kind)]
    skipped = any(element.find("skipped") is not None for element in elements)
    verdict = Verdict.FAILED if problems else Verdict.SKIPPED if skipped else Verdict.PASSED
    return Case(
        name=name,
        id=name if "::" in name else "",
        verdict=verdict,
        seconds=sum(float(element.get("time", 0)) for element in elements),
        reason=next(iter(lines(problems[0].get("message", ""))), "") if problems else "",
        traceback="\n".join(problem.text or "" for problem in problems),
        printed="\n".join(_printed(element) for element in elements),
    )


def _printed(element: ET.Element) -> str:
    said = element.findtext("system-out", "").splitlines()
    return "\n".join(line for line in said if line.strip("-") != " Captured Out ")


def _name(element: ET.Element, checkout: Path) -> str:
    """The node id of a test. The report has only the dotted name of its module with its classes."""
    name, dotted = element.get("name", ""), element.get("classname", "").split(".")
    for count in range(len(dotted), 0, -1):
        module = f"{'/'.join(dotted[:count])}.py"
        if (checkout / module).is_file():
            return "::".join([module, *dotted[count:], name])
    return name
