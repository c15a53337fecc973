"""What a commit tells those who wait: typed facts, the same for this server and for others on its database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from server.queue.facts.records import Prediction
from server.queue.facts.states import Status


@dataclass(frozen=True, slots=True)
class Available:
    """Work of a tier may be leased that could not be leased before, or a lease left some of it."""

    tier: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A prediction changed its state to ``status``."""

    id: str
    tier: str
    status: Status


@dataclass(frozen=True, slots=True)
class Ended:
    """A result came: the whole prediction, for those who wait in the server that took the result.

    Other servers hear the ``Moved`` that comes with it, and read the prediction.
    """

    prediction: Prediction


@dataclass(frozen=True, slots=True)
class Anything:
    """Any of these may have happened unheard: whoever waits looks again."""


News: TypeAlias = Available | Moved | Ended | Anything
Listener = Callable[[Sequence[News]], None]
