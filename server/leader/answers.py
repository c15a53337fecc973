"""The queue's answers, waited for on a thread that has nothing else to do."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

# Longer than PostgreSQL may take for a statement or a lock (10 s and 5 s, ``queue.store.sessions``).
ANSWER_SECONDS = 30.0


def answer(future: Future[T]) -> T:
    """The result of an operation of the queue. Raises what the operation raises, or ``TimeoutError``."""
    try:
        return future.result(ANSWER_SECONDS)
    except TimeoutError:
        raise TimeoutError(f"the queue did not answer within {ANSWER_SECONDS:g} s") from None
