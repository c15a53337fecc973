"""What a server tells: predictions, their events, and tiers. docs/api.md says what each field means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from tierserve.errors import TierserveError

FINAL = frozenset({"succeeded", "failed", "canceled", "expired", "aborted"})
"""The statuses of a prediction that has ended."""
WAITING = frozenset({"queued", "starting"})
"""The events that tell a place in the queue."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Label:
    """A class of the model, and its score."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a picture or a prediction has no labels: a stable ``code``, and the ``detail`` for people."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Result:
    """What is on one picture: its ``labels``, the best first, or the ``error`` that it has instead.

    ``field`` and ``file`` are the form's field in which the picture came and the file name that it had, if there are
    any.
    """

    index: int
    status: str
    labels: tuple[Label, ...]
    error: Fault | None
    field: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a prediction waits: ``position`` 1 is next, ``reason`` says why, ``eta_seconds`` is None if not known."""

    position: int
    ahead: int
    reason: str
    eta_seconds: float | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Milliseconds from acceptance to the first lease, of the worker, and from acceptance to the end."""

    queue_ms: float | None
    predict_ms: float | None
    total_ms: float | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """One request with pictures, as it stood when it was read. ``document`` is the JSON that the server sent.

    ``results`` has one entry a picture; it is empty until the prediction has ended, and in a list of predictions.
    """

    id: str
    tier: str
    status: str
    model: str
    images: int
    results: tuple[Result, ...]
    error: Fault | None
    place: Place | None
    metrics: Metrics
    attempts: int
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    deadline_at: datetime | None
    document: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels of the first picture, the best first; none until it has them."""
        return self.results[0].labels if self.results else ()

    @property
    def ended(self) -> bool:
        """Whether it has ended, well or not."""
        return self.status in FINAL

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Prediction:
        """The prediction of a document. Raises ``LookupError``, ``TypeError`` or ``ValueError`` if it is not one."""
        metrics = document["metrics"]
        return cls(
            id=document["id"],
            tier=document["tier"],
            status=document["status"],
            model=document["model"],
            images=document["images"],
            results=tuple(map(_result, document.get("results") or ())),
            error=_fault(document["error"]),
            place=_place(document.get("queue")),
            metrics=Metrics(*(metrics.get(name) for name in ("queue_ms", "predict_ms", "total_ms"))),
            attempts=document["attempts"],
            created_at=datetime.fromisoformat(document["created_at"]),
            started_at=_time(document["started_at"]),
            completed_at=_time(document["completed_at"]),
            deadline_at=_time(document["deadline_at"]),
            document=document,
        )


class PredictionFailed(TierserveError):
    """A prediction has ended, and not with a success: ``prediction`` tells how."""

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction
        super().__init__(prediction)

    @property
    def code(self) -> str:
        """A stable word: that of the prediction's error, or how it ended."""
        return self.prediction.error.code if self.prediction.error else self.prediction.status

    @property
    def detail(self) -> str:
        """What happened, for people."""
        return self.prediction.error.detail if self.prediction.error else f"the prediction was {self.prediction.status}"

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Event:
    """A state of a prediction: ``queued``, ``starting``, ``leased``, or how it ended.

    ``place`` is there while it waits; ``stage`` and ``job`` tell of the worker that is starting for it; ``attempts``
    counts the leases of one that a worker holds; ``prediction`` is the whole one, once it has ended.
    """

    name: str
    prediction_id: str
    place: Place | None = None
    stage: str | None = None
    job: str | None = None
    attempts: int | None = None
    prediction: Prediction | None = None

    @classmethod
    def of(cls, name: str, data: Mapping[str, Any]) -> Event:
        """The event of this name and data. Raises what ``Prediction.of`` raises."""
        return cls(
            name,
            data["id"],
            place=_place(data) if name in WAITING else None,
            stage=data.get("stage"),
            job=data.get("job"),
            attempts=data["attempts"] if name == "leased" else None,
            prediction=Prediction.of(data) if name in FINAL else None,
        )


@dataclass(frozen=True, slots=True)
class Lending:
    """How a tier stands to its part of the capacity. All but ``recalled`` are parts of the capacity.

    ``share`` is its part, ``used`` what its workers use, ``borrowed`` what they use beyond its part, and ``lent`` what
    other tiers use of it. ``recalled`` counts its workers that give back what it borrowed and have not gone yet.
    """

    share: float
    used: float
    borrowed: float
    lent: float
    recalled: int


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier as it is now. ``model`` is NAME@VERSION, or what the settings name while nothing is served.

    ``lending`` is None if the server has no capacity. ``document`` is the JSON that the server sent, with the quota,
    limits, jobs and more.
    """

    name: str
    model: str
    queued: int
    predicting: int
    workers: int
    starting: int
    room: int | None
    reason: str
    lending: Lending | None
    document: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Tier:
        """The tier of a document. Raises what ``Prediction.of`` raises."""
        numbers = {name: document[name] for name in ("queued", "predicting", "workers", "starting", "room")}
        model = document["model"]["reference"] or document["model"]["name"]
        reason, lending = document["reason"] or "", _lending(document.get("lending"))
        return cls(document["name"], model, **numbers, reason=reason, lending=lending, document=document)


def understood(make: Callable[..., T], *what: Any) -> T:
    """What ``make`` makes of an answer. Raises ``TierserveError`` if the answer is not one of a server of tierserve."""
    try:
        return make(*what)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise TierserveError(f"the server did not answer as one of tierserve does ({error!r})") from error


def _result(document: Mapping[str, Any]) -> Result:
    labels = tuple(Label(one["label"], one["score"]) for one in document["labels"])
    names = document.get("field"), document.get("file")
    return Result(document["index"], document["status"], labels, _fault(document["error"]), *names)


def _fault(document: Mapping[str, Any] | None) -> Fault | None:
    return None if document is None else Fault(document["code"], document["detail"])


def _place(document: Mapping[str, Any] | None) -> Place | None:
    if document is None:
        return None
    return Place(document["position"], document["ahead"], document["reason"], document.get("eta_seconds"))


def _lending(document: Mapping[str, Any] | None) -> Lending | None:
    if document is None:
        return None
    return Lending(*(document[name] for name in ("share", "used", "borrowed", "lent", "recalled")))


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
