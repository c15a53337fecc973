"""What each tier serves, as every server knows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future

from server.models.split import is_canary
from server.queue import Serving

ANSWER_SECONDS = 30.0  # longer than the database may take for a statement or a lock
UNKNOWN = Serving()


class ServingView:
    """What the leader decided, in memory. All but ``refresh`` never block, and are safe from any thread.

    ``read`` asks the database. ``changed`` is called on the thread that refreshes, whenever something else is served.
    """

    def __init__(self, read: Callable[[], Future[dict[str, Serving]]]) -> None:
        self.changed: Callable[[], object] = lambda: None
        self._read = read
        self._served: Mapping[str, Serving] = {}

    def of(self, tier: str) -> Serving:
        """What the tier serves; without a ``main`` when that is not known yet."""
        return self._served.get(tier, UNKNOWN)

    def is_canary(self, tier: str, prediction_id: str) -> bool:
        """Whether the tier's canary classifies the prediction."""
        serving = self.of(tier)
        return serving.canary is not None and is_canary(prediction_id, serving.percent)

    def refresh(self) -> None:
        """Read what was decided. Blocks. Raises what the queue raises, and ``TimeoutError``; the last answer stays."""
        served = self._read().result(ANSWER_SECONDS)
        if served != self._served:
            self._served = served
            self.changed()
