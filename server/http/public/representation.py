"""Describes predictions to clients, and turns those that ended badly into problems."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from server.http.services import Services
from server.intake.names import NAMELESS, Name, read
from server.problems import Problem
from server.queue import NEVER_SEEN, Pace, Position, Prediction, QueueError, Status, TierView, asked

SAMPLE_SMALLEST = 10
ENDED_BADLY = {
    Status.FAILED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Status.CANCELED: HTTPStatus.CONFLICT,
    Status.EXPIRED: HTTPStatus.GATEWAY_TIMEOUT,
    Status.ABORTED: HTTPStatus.GATEWAY_TIMEOUT,
}


def path_of(prediction_id: str) -> str:
    """Where a prediction is read."""
    return f"/v1/predictions/{prediction_id}"


async def describe(prediction: Prediction, services: Services) -> dict[str, Any]:
    """The resource, as JSON; ``queue`` is None too while the queue cannot be asked."""
    queue = None
    if prediction.status is Status.QUEUED:
        with suppress(QueueError):
            queue = await _queue(prediction, services)
    return resource(prediction, queue)


def resource(prediction: Prediction, queue: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The resource, as JSON, with this place in the queue."""
    names = read(prediction.names) or [NAMELESS] * prediction.images
    given = zip(prediction.results or [], names, strict=False)
    results = [{**_result(index, result), **_named(name)} for index, (result, name) in enumerate(given)]
    return {**summary(prediction), "results": results, "queue": queue}


def summary(prediction: Prediction) -> dict[str, Any]:
    """The resource without its results and its place in the queue, as a list shows it."""
    started, completed = prediction.started_at, prediction.completed_at
    metrics = {
        "queue_ms": None if started is None else _milliseconds(prediction.accepted_at, started),
        "predict_ms": prediction.predict_ms,
        "total_ms": None if completed is None else _milliseconds(prediction.accepted_at, completed),
    }
    path = path_of(prediction.id)
    return {
        "id": prediction.id,
        "tier": prediction.tier,
        "status": prediction.status.value,
        "model": prediction.model,
        "images": prediction.images,
        "created_at": _time(prediction.accepted_at),
        "started_at": _time(started),
        "completed_at": _time(completed),
        "deadline_at": _time(prediction.deadline_at),
        "attempts": prediction.attempts,
        "error": prediction.error,
        "metrics": {name: value for name, value in metrics.items() if value is not None},
        "urls": {"get": path, "cancel": path},
    }


def ended_badly(prediction: Prediction, body: Mapping[str, Any]) -> Problem | None:
    """The problem of a prediction that a waiting client must not get as a success."""
    status = ENDED_BADLY.get(prediction.status)
    if status is None:
        return None
    error = prediction.error or {"code": prediction.status.value, "detail": f"the prediction was {prediction.status}"}
    return Problem(status, error["code"], error["detail"], prediction=body)


def seconds_left(body: Mapping[str, Any]) -> float:
    """After how many seconds to ask again for a prediction that was described like this."""
    found: float = (body["queue"] or {}).get("eta_seconds", 1)
    return found


async def _queue(prediction: Prediction, services: Services) -> dict[str, Any] | None:
    position = await asked(services.queue.position(prediction.id))
    if position is None:
        return None
    pace = await services.paces.get(prediction.tier)
    view = (await services.views.get()).get(prediction.tier, NEVER_SEEN)
    queue = place_in_queue(prediction, position, pace, view, services)
    return {name: value for name, value in queue.items() if value is not None}


def place_in_queue(
    prediction: Prediction, position: Position, pace: Pace, view: TierView, services: Services
) -> dict[str, Any]:
    """Where a prediction waits, behind those of this server's lobby too; ``eta_seconds`` is None if nobody can tell."""
    beside = services.lobby.ahead_of(prediction.tier, (prediction.priority, prediction.turn, prediction.accepted_at))
    ahead = position.ahead + beside
    seconds = eta(ahead, pace, view.running)
    return {"position": ahead + 1, "ahead": ahead, "reason": view.reason, "eta_seconds": seconds}


def eta(ahead: int, pace: Pace, running: int) -> float | None:
    """Seconds until a prediction behind ``ahead`` others is done; None while too few were made to tell."""
    if pace.sample < SAMPLE_SMALLEST or pace.predict_seconds is None:
        return None
    return round((ahead + 1) * pace.predict_seconds / max(1, running), 2)


def _result(index: int, result: Mapping[str, Any]) -> dict[str, Any]:
    if "error" in result:
        return {"index": index, "status": "failed", "labels": [], "error": result["error"]}
    return {"index": index, "status": "succeeded", "labels": result["labels"], "error": None}


def _named(name: Name) -> dict[str, str]:
    """What the request called a picture, as far as it gave it a name."""
    return {member: text for member, text in name._asdict().items() if text}


def _milliseconds(start: float, end: float) -> float:
    return round(1000 * max(0.0, end - start), 1)  # two servers' clocks may differ a little


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
