"""A build's progress, kept for the test."""

from dataclasses import dataclass, field


@dataclass
class Told:
    """Keeps what a build tells."""

    steps: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def step(self, sentence: str, total: int | None = None) -> None:
        self.steps.append(sentence)

    def advance(self, count: int = 1) -> None:
        """The step goes on."""

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)
