"""What a build tells, kept for a test."""

from __future__ import annotations


class Recorded:
    """Keeps the steps and the warnings of a build, and the sum of its progress in each step."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.warnings: list[str] = []
        self.totals: list[int | None] = []
        self.advanced: list[int] = []

    def step(self, sentence: str, total: int | None = None) -> None:
        """Keep a step."""
        self.steps.append(sentence)
        self.totals.append(total)
        self.advanced.append(0)

    def advance(self, count: int = 1) -> None:
        """Add to the step under way."""
        self.advanced[-1] += count

    def warn(self, sentence: str) -> None:
        """Keep a warning."""
        self.warnings.append(sentence)
