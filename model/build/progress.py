"""How a build tells what it does."""

from typing import Protocol


class Progress(Protocol):
    """Is told what happens, while it happens."""

    def step(self, sentence: str, total: int | None = None) -> None:
        """A step begins, and the one before has ended; ``total`` is how often it will ``advance``, if that is known."""

    def advance(self, count: int = 1) -> None:
        """The step under way has done so much."""

    def warn(self, sentence: str) -> None:
        """The owner of the model should know this."""
