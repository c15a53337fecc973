"""The figures that tests measured. They are printed after all tests, and no test fails because of them."""

from __future__ import annotations

LINES: list[str] = []


def tell(line: str) -> None:
    """Print a line with a figure after all tests."""
    LINES.append(line)
