"""On which terms a worker works: when it ends, and how much it takes ahead."""

from __future__ import annotations

from dataclasses import dataclass

# How much is granted ahead. More would be held back from other workers, less would cost a message per picture.
AHEAD_SECONDS, AHEAD_MOST = 0.15, 8
HELD_MOST = 64  # what a server lets a worker hold, and a message may name, with results that have no outcome
UNSETTLED_MOST = 32  # with so many results without an outcome nothing more is granted
GATHER_SECONDS = 0.05
BATCH_GATHER_SECONDS = 0.01  # a batch has gathered results already


@dataclass(frozen=True, slots=True)
class Terms:
    """When a worker ends: after ``idle`` seconds without work, or ``max_predictions``; and its largest picture.

    It classifies ``batch`` pictures at once, at most.
    """

    idle: float
    max_predictions: int
    max_pixels: int
    batch: int = 1

    @property
    def batches(self) -> bool:
        """Whether it classifies several pictures at once."""
        return self.batch > 1

    @property
    def gather(self) -> float:
        """For how many seconds results are gathered while there is more to do."""
        return BATCH_GATHER_SECONDS if self.batches else GATHER_SECONDS

    @property
    def unsettled(self) -> int:
        """How many results may be without an outcome when more predictions are asked for."""
        return HELD_MOST if self.batches else UNSETTLED_MOST

    def ahead(self, pace: float) -> int:
        """How many predictions are asked for ahead, if each takes ``pace`` seconds. 0 or less: only when idle."""
        if self.batches:  # one batch is decoded while the other is classified
            return min(HELD_MOST, 2 * self.batch)
        return min(AHEAD_MOST, int(AHEAD_SECONDS / pace) - 1)
