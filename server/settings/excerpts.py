"""Shows a text with the numbers of its lines, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

from server.settings.documents import Finding

MOST_LINES, MOST_CHARACTERS = 400, 160


def excerpt(text: str, findings: Sequence[Finding], around: int | None = None) -> str:
    """Return the lines of ``text`` with their numbers, those of ``findings`` marked by ``>``.

    They are all lines, or those ``around`` the marked ones; if there are too many, the first of them. Long lines are
    cut, and characters that a terminal would not print are escaped.
    """
    lines = text.splitlines()
    marked = {finding.line for finding in findings}
    near = {number + step for number in marked if number for step in range(-(around or 0), (around or 0) + 1)}
    wanted = [number for number in range(1, len(lines) + 1) if around is None or number in near]
    shown: list[str] = []
    before = 0
    for number in wanted[:MOST_LINES]:
        if number != before + 1 and shown:
            shown.append("     ...")
        shown.append(f"{'>' if number in marked else ' '}{number:4} {_printable(lines[number - 1])}".rstrip())
        before = number
    if len(wanted) > MOST_LINES:
        shown.append(f"     ... and {len(wanted) - MOST_LINES} lines more")
    return "\n".join(shown)


def _printable(line: str) -> str:
    cut = line if len(line) <= MOST_CHARACTERS else line[:MOST_CHARACTERS] + "..."
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in cut)
