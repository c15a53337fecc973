"""What the followers of a prediction are told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from server.engines.base import Stage
from server.http.crews import LiveJob
from server.http.following import State
from server.http.public.representation import place_in_queue, resource
from server.http.services import Services
from server.models import lane
from server.queue import FINAL, NEVER_SEEN, Position, Prediction, Serving, Status, asked

READY = ("idle", "busy")
STARTING = "starting"
AT_ONCE = 8  # predictions, whose results can be long, before others on the event loop have their turn
_STAGES = tuple(Stage)


class States:
    """Describes predictions to those who follow them."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def look(self, prediction_ids: Collection[str]) -> dict[str, State]:
        """How these predictions are, without those that do not exist. Raises what the queue raises."""
        services = self._services
        found = await asked(services.queue.whereabouts(prediction_ids))
        waiting = {prediction.tier for prediction, position in found.values() if position is not None}
        paces = {tier: await services.paces.get(tier) for tier in waiting}
        views = await services.views.get() if waiting else {}
        crews = await services.crews.get() if waiting else {}

        def state(prediction: Prediction, position: Position | None) -> State:
            tier = prediction.tier
            if position is None:
                return self._state(prediction)
            view = views.get(tier, NEVER_SEEN)
            place = place_in_queue(prediction, position, paces[tier], view, services)
            starting = furthest(crews.get(tier, ()), services.serving.of(tier), canary=prediction.canary)
            if starting is None:
                return _waiting(prediction, Status.QUEUED, place)
            return _waiting(prediction, STARTING, {**place, "stage": starting.stage, "job": starting.name})

        states: dict[str, State] = {}
        for key, one in found.items():
            states[key] = state(*one)
            if len(states) % AT_ONCE == 0:
                await asyncio.sleep(0)
        return states

    def ended(self, prediction: Prediction) -> State:
        """The final state of a prediction that has ended."""
        return State.of(prediction.status, resource(prediction), prediction.owner, is_final=True)

    def _state(self, prediction: Prediction) -> State:
        if prediction.status in FINAL:
            return self.ended(prediction)
        return State.of(prediction.status, {"id": prediction.id, "attempts": prediction.attempts}, prediction.owner)


def furthest(crew: Sequence[LiveJob], serving: Serving, *, canary: bool) -> LiveJob | None:
    """The Job of a lane whose start has come furthest, while none takes work; None if one does, or none starts."""
    of_lane = [job for job in crew if lane(job.model, serving) is canary]
    if any(job.state in READY for job in of_lane):
        return None
    return max((job for job in of_lane if job.state == STARTING), key=_progress, default=None)


def _progress(job: LiveJob) -> int:
    return -1 if job.stage is None else _STAGES.index(job.stage)


def _waiting(prediction: Prediction, name: str, place: dict[str, Any]) -> State:
    return State.of(name, {"id": prediction.id, **place}, prediction.owner)
