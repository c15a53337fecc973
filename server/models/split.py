"""Which of a tier's two models a prediction goes to, and which of them a worker runs."""

from __future__ import annotations

import hashlib

from server.queue import Serving

DRAWN_BYTES = 8
OUTDATED = "its tier serves another model"  # why a worker is told to end that is nobody's


def is_canary(prediction_id: str, percent: float) -> bool:
    """Whether the canary classifies this prediction, when it gets so many percent of them.

    The answer follows from the id alone. A larger percentage adds predictions to the canary's and takes none away.
    """
    drawn = hashlib.sha256(prediction_id.encode()).digest()[:DRAWN_BYTES]
    return int.from_bytes(drawn) * 100 < percent * (1 << 8 * DRAWN_BYTES)


def lane(model: str, serving: Serving) -> bool | None:
    """Whose predictions a worker gets: False main's, True the canary's, None nobody's, because it is outdated.

    ``model`` is what its Job's row says (``Served.key``). Where that or the tier's model is not known, it gets main's.
    """
    if not model or serving.main is None or model == serving.main.key:
        return False
    return True if serving.canary is not None and model == serving.canary.key else None
