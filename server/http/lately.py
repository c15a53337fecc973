"""What happened lately in each tier, as it was told a moment ago: many readers cost the queue as much as one."""

from __future__ import annotations

from server.queue import JobRecord, Minute, Prediction, Queue, RecentByName

LATEST = 20  # predictions and Jobs of a tier that are told


class Lately:
    """Answers by tier that are at most ``seconds`` old."""

    def __init__(self, queue: Queue, seconds: float) -> None:
        self.minutes: RecentByName[list[Minute]] = RecentByName(queue.minutes, seconds)
        """Those of the last hour in which something happened, the oldest first."""
        self.predictions: RecentByName[list[Prediction]] = RecentByName(
            lambda tier: queue.latest_predictions(tier, LATEST), seconds
        )
        """The latest ones, the newest first, without their results."""
        self.jobs: RecentByName[list[JobRecord]] = RecentByName(lambda tier: queue.latest_jobs(tier, LATEST), seconds)
        """The latest ones, the newest first."""
