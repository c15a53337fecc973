"""``GET /v1/tiers/{tier}/activity``: what happened lately in a tier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.access.keys import time_text
from server.http.public.base import PublicHandler
from server.http.public.representation import summary
from server.http.public.told import wait
from server.queue import KEPT_MINUTES, MINUTE_SECONDS, JobRecord, Minute, Prediction, minute_of
from server.settings.records import Tier

# An id is what opens a prediction that came without a key.
UNTOLD = frozenset({"id", "urls", "tier", "deadline_at"})


class ActivityHandler(PublicHandler):
    """For callers to whom the tier is open."""

    parameters = ()

    async def get(self, name: str) -> None:
        """The minutes of the last hour, and the latest predictions and Jobs. Raises ``Problem``."""
        tier, lately = self.tier_to_use(name), self.services.lately
        self.answer(
            {
                "minutes": _hour(await lately.minutes.get(name), minute_of(self.services.clock())),
                "predictions": [_prediction(one) for one in await lately.predictions.get(name)],
                "jobs": [self._job(tier, one) for one in await lately.jobs.get(name)],
            }
        )

    def _job(self, tier: Tier, job: JobRecord) -> dict[str, Any]:
        state = "running" if job.ended_at is None else "failed" if job.blamed else "succeeded"
        return {
            "name": job.name,
            "state": state,
            "model": job.model.partition(" ")[0] or None,
            "opened_at": time_text(job.opened_at),
            "ended_at": time_text(job.ended_at),
            "reason": job.reason,
            "logs": self.services.log_command(tier, job.name) or None,
        }


def _hour(minutes: Sequence[Minute], last: int) -> list[dict[str, Any]]:
    """Every minute of the hour that ends with the minute ``last``."""
    known = {minute.at: minute for minute in minutes}
    return [_minute(known.get(at) or Minute(at)) for at in range(last - KEPT_MINUTES + 1, last + 1)]


def _minute(minute: Minute) -> dict[str, Any]:
    return {
        "at": time_text(minute.at * MINUTE_SECONDS),
        "accepted": minute.accepted,
        "succeeded": minute.succeeded,
        "failed": minute.failed,
        "wait_p50": wait(minute.waits, 0.5),
        "wait_p95": wait(minute.waits, 0.95),
    }


def _prediction(prediction: Prediction) -> dict[str, Any]:
    return {name: value for name, value in summary(prediction).items() if name not in UNTOLD}
