"""What a build tells, kept for a test."""

from dataclasses import dataclass, field


@dataclass
class Told:
    """Keeps the steps of a build, how long each was said to be and how far it came, and the warnings."""

    steps: list[str] = field(default_factory=list)
    totals: list[int | None] = field(default_factory=list)
    advanced: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def step(self, sentence: str, total: int | None = None) -> None:
        self.steps.append(sentence)
        self.totals.append(total)
        self.advanced.append(0)

    def advance(self, count: int = 1) -> None:
        if self.advanced:
            self.advanced[-1] += count

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)
