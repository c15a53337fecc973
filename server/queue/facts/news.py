"""What those who wait are told of a commit, in this server and in the others on its database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from server.queue.facts.records import Prediction
from server.queue.facts.states import Status


@dataclass(frozen=True, slots=True)
class Available:
    """There may be work of a tier that a worker can lease now and could not before, or that a lease has left."""

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
class Began:
    """A worker asked for work for the first time, so many ``seconds`` after its Job was stored.

    Only this server hears it.
    """

    tier: str
    seconds: float


@dataclass(frozen=True, slots=True)
class JobRecalled:
    """The worker of a Job was recalled for this reason: it begins nothing more, and ends."""

    job: str
    tier: str
    reason: str


@dataclass(frozen=True, slots=True)
class AttemptLost:
    """A lease of a prediction was lost, for this reason; ``request_id`` and ``trace`` are its request's.

    Only this server hears it.
    """

    id: str
    reason: str
    request_id: str | None
    trace: str | None


@dataclass(frozen=True, slots=True)
class KeysChanged:
    """A key was made, revoked, or given another end."""


@dataclass(frozen=True, slots=True)
class ModelsChanged:
    """A model was pushed, removed or tagged, or a tier serves another one."""


@dataclass(frozen=True, slots=True)
class Anything:
    """Some news may have been missed: whoever waits for any looks again."""


News: TypeAlias = Available | Moved | Ended | Began | JobRecalled | AttemptLost | KeysChanged | ModelsChanged | Anything
Listener = Callable[[Sequence[News]], None]
