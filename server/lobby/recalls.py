"""Which workers were recalled, as every server knows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future

ANSWER_SECONDS = 30.0  # longer than the database may take for a statement or a lock


class Recalls:
    """Why workers were recalled, in memory. All but ``refresh`` never block, and are safe from any thread.

    ``read`` asks the database. ``changed`` is called on the thread that refreshes, whenever the answer is another.
    """

    def __init__(self, read: Callable[[], Future[dict[str, str]]]) -> None:
        self.changed: Callable[[], object] = lambda: None
        self._read = read
        self._reasons: Mapping[str, str] = {}

    def of(self, job: str) -> str:
        """Why the worker of a Job was recalled; empty: it was not, or that is not known yet."""
        return self._reasons.get(job, "")

    def add(self, job: str, reason: str) -> None:
        """News says that a worker was recalled. It is known until ``refresh`` reads which are."""
        self._reasons = {**self._reasons, job: reason}

    def refresh(self) -> None:
        """Read which are recalled. Blocks. Raises what the queue raises, and ``TimeoutError``; the last answer stays.

        News that comes meanwhile may be forgotten until the next time.
        """
        reasons = self._read().result(ANSWER_SECONDS)
        if reasons != self._reasons:
            self._reasons = reasons
            self.changed()
