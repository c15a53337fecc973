"""Reading predictions, and waiting for their ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from http import HTTPStatus

from server.http.services import Services
from server.http.wakeups import Waiter
from server.problems import Problem
from server.queue import ANONYMOUS, FINAL, Prediction, QueueError, asked, has_tag, is_id


def check_own(prediction_id: str, owner: str, services: Services) -> float | None:
    """Check, without a look at the database, that the id can be one of the owner's. Raises ``Problem`` with 404.

    What came without a key belongs to whoever has its id. Returns when the id was made, in epoch seconds; None for one
    of an older version, of which only the row tells the owner.
    """
    if not has_tag(prediction_id) and is_id(prediction_id):
        return None
    for one in (owner, ANONYMOUS):
        if (born := services.queue.ids.made_at(prediction_id, one)) is not None:
            return born
    raise no_such_prediction(prediction_id)


async def read(prediction_id: str, owner: str, services: Services) -> Prediction:
    """The owner's prediction as it is. Raises ``Problem``: 410 when it was and is no longer kept, else 404."""
    born = check_own(prediction_id, owner, services)
    prediction = await asked(services.queue.get(prediction_id))
    if prediction is not None and prediction.owner in (owner, ANONYMOUS):
        return prediction
    raise missing(prediction_id, born, services)


def missing(prediction_id: str, born: float | None, services: Services) -> Problem:
    """The problem of an id that has no prediction: 410 when it had one, else 404. ``born``: see ``check_own``."""
    # An id does not tell its tier, so the shortest time of all tiers decides.
    kept = min(tier.waits.results for tier in services.settings.tiers.values())
    if born is not None and born + kept < services.clock():
        detail = f"results are kept for {kept:g} s after the end; send the picture again"
        return Problem(HTTPStatus.GONE, "result_gone", detail, kept_seconds=kept)
    return no_such_prediction(prediction_id)


def no_such_prediction(prediction_id: str) -> Problem:
    """The problem of an id that stands for nothing."""
    return Problem(HTTPStatus.NOT_FOUND, "no_such_prediction", f"there is no prediction {prediction_id[:80]}")


async def until_final(
    prediction_id: str, first: Awaitable[Prediction], seconds: float, services: Services
) -> Prediction:
    """Return the prediction that ``first`` gives once it is final, or as it is after ``seconds``."""
    end = asyncio.get_running_loop().time() + seconds
    # It listens before the prediction exists, so as not to miss its end.
    with services.wakeups.for_end(prediction_id) as waiter:
        prediction = await first
        if prediction.id == prediction_id:
            return await watched(prediction, waiter, end, services)
    # The idempotency key belongs to an older prediction.
    repeated = read(prediction.id, prediction.owner, services)
    return await until_final(prediction.id, repeated, seconds, services)


async def watched(prediction: Prediction, waiter: Waiter, end: float, services: Services) -> Prediction:
    """Return a prediction of the table once it is final, or as it is at the loop's time ``end``."""
    while prediction.status not in FINAL and (left := patience(waiter, end, services)) > 0:
        await waiter.wait(left)
        prediction = waiter.ended or await _read_again(prediction, services)
    return prediction


def patience(waiter: Waiter, end: float, services: Services) -> float:
    """How many seconds a request still waits."""
    if services.wakeups.draining or waiter.hurried:
        return 0.0
    return end - asyncio.get_running_loop().time()


async def _read_again(last: Prediction, services: Services) -> Prediction:
    """Return the prediction as it is, or ``last`` while the queue cannot be read.

    An error would tell the waiting client that nothing was kept.
    """
    try:
        return await read(last.id, last.owner, services)
    except QueueError:
        return last
