"""The summary of a run. It fits on a screen, and says where the rest is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.gate.report import Case, Verdict
from tests.gate.suite import Result, tail

MOST_LINES = 60
OWN_LINES = 20
LEAST_LINES = 3
SLOWEST = 10
EVERYTHING = 1 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """A failure, with a title and the lines of its output. The last lines matter most."""

    title: str
    body: Sequence[str]

    def text(self, most: int) -> list[str]:
        """The title and the last ``most`` lines."""
        return [self.title, *(f"  {line}" for line in self.body[-most:])]


def summary(results: Sequence[Result], logs: Path) -> list[str]:
    """At most ``MOST_LINES`` lines; the last one has the totals. The rest is written to files in ``logs``."""
    failures, slowest = logs / "failures.txt", _slowest(results)
    _write(failures, [line for block in _blocks(results, EVERYTHING) for line in [*block.text(EVERYTHING), ""]])
    _write(logs / "slowest.txt", slowest)
    head = [*_table(results), *(note for result in results for note in _notes(result))]
    foot = [f"logs: {logs}", totals(results)]
    room = MOST_LINES - len(head) - len(foot)
    shown = _fitted(_blocks(results, OWN_LINES), room, failures)
    spare = room - len(shown) - 1
    slow = ["slowest:", *(f"  {line}" for line in slowest[:spare])] if spare > 0 and slowest else []
    return [*head, *slow, *shown, *foot]


def totals(results: Sequence[Result]) -> str:
    """The last line. A suite that fails without a failed test counts as one failure, a flaky test as passed."""
    counts = {verdict: sum(len(result.having(verdict)) for result in results) for verdict in Verdict}
    flaky = sum(len(result.flaky) for result in results)
    failed = sum(len(result.failed) or bool(result.trouble) for result in results)
    return f"{counts[Verdict.PASSED] + flaky} passed, {failed} failed, {counts[Verdict.SKIPPED]} skipped"


def counted(result: Result) -> str:
    """The result of a suite in a few words."""
    if not result.cases:
        return result.trouble or "ok"
    counts = {
        "passed": len(result.having(Verdict.PASSED)),
        "failed": len(result.failed),
        "skipped": len(result.having(Verdict.SKIPPED)),
        "flaky": len(result.flaky),
    }
    words = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what != "flaky")
    return f"{words}, {result.trouble}" if result.trouble else words


def clock(seconds: float) -> str:
    """A time as minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _table(results: Sequence[Result]) -> list[str]:
    width = max(len(result.name) for result in results)
    return [f"{result.name:<{width}} {clock(result.seconds):>6}  {counted(result)}" for result in results]


def _notes(result: Result) -> list[str]:
    found = list(result.notes)
    for case in result.flaky:
        found += [f"flaky: {case.name}", f"  first: {case.reason}"]
        found += [f"  then: passed alone in {result.again[case.id].seconds:.1f} s"]
    return found


def _blocks(results: Sequence[Result], most: int) -> list[Block]:
    found = [_block(result, case, most) for result in results for case in result.failed]
    for result in results:
        if result.trouble:
            found.append(Block(f"FAILED {result.name}: {result.trouble}", tail(result.output, OWN_LINES)))
    return found


def _block(result: Result, case: Case, most: int) -> Block:
    again = result.again.get(case.id)
    if again is None:
        return Block(f"FAILED {case.name} ({case.seconds:.1f} s)", case.tail(most))
    told = again.failures[0].reason if again.failures else again.trouble
    return Block(f"FAILED {case.name} ({case.seconds:.1f} s), and alone: {told}", case.tail(most))


def _fitted(blocks: Sequence[Block], room: int, rest: Path) -> list[str]:
    """The lines of as many blocks as fit, each cut to the same number of lines."""
    for count in range(len(blocks), 0, -1):
        more = [] if count == len(blocks) else [f"... and {len(blocks) - count} more, see {rest}"]
        for most in range(OWN_LINES, LEAST_LINES - 1, -1):
            shown = [line for block in blocks[:count] for line in block.text(most)]
            if len(shown) + len(more) <= room:
                return [*shown, *more]
    return [f"{len(blocks)} failed, see {rest}"] if blocks else []


def _slowest(results: Sequence[Result]) -> list[str]:
    cases = sorted((case for result in results for case in result.cases), key=lambda case: -case.seconds)[:SLOWEST]
    return [f"{case.seconds:7.1f} s  {case.name}" for case in cases]


def _write(path: Path, content: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in content))
