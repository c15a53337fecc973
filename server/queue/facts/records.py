"""What goes into the queue and what comes out. Moments are epoch seconds, durations seconds, sizes bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from server.queue.facts.states import Status
from server.settings.quantity import Usage

COST_STEPS = 1 << 20
ATTEMPTS = 3  # leases that may be lost before a prediction fails, where a tier does not say otherwise
SOFTMAX, SIGMOID, NONE = FUNCTIONS = "softmax", "sigmoid", "none"
"""The functions that make scores of a model's logits: scores that sum to 1, one score for each class by itself, or the
logits themselves."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One prediction to be queued. ``deadline`` counts from now; a smaller ``priority`` goes first.

    ``owner`` is who may read it, and whose idempotency key it has. ``caller`` is whose share of the tier, of weight
    ``weight``, it takes. ``canary`` is its lane: whether it goes to the canary of its tier. ``function`` is one of
    ``FUNCTIONS``. ``trace`` is a ``traceparent`` of W3C Trace Context; both it and ``request_id`` tell in logs
    which request this was. ``names`` is what its caller calls its pictures, in JSON; the queue does not read it.
    """

    id: str
    tier: str
    model: str
    images: int
    size: int
    top_k: int
    priority: int
    deadline: float
    idempotency_key: str | None
    fingerprint: str | None
    owner: str
    caller: str
    weight: float = 1.0
    canary: bool = False
    function: str = SOFTMAX
    trace: str | None = None
    request_id: str | None = None
    names: str | None = None

    @property
    def cost(self) -> float:
        """How many turns of its caller it takes.

        In steps of 2 ** -20, so that sums are exact: 1 / 3 three times would end just before the turn's end.
        """
        return math.ceil(self.images / self.weight * COST_STEPS) / COST_STEPS


@dataclass(frozen=True, slots=True)
class Prediction:
    """A prediction as a reader sees it. ``attempts`` counts its leases, less those that were handed back.

    ``turn`` orders the predictions of its tier that have the same priority: see ``operations.shares``.
    ``model`` is what its tier's settings said when it was accepted, and NAME@VERSION once a worker has answered.
    ``reason`` says why its last lease was lost; it is empty if none was. ``canary`` is its lane.
    """

    id: str
    tier: str
    model: str
    status: Status
    images: int
    size: int
    top_k: int
    priority: int
    turn: int
    owner: str
    fingerprint: str | None
    accepted_at: float
    deadline_at: float
    started_at: float | None = None
    completed_at: float | None = None
    attempts: int = 0
    job: str | None = None
    results: list[Any] | None = None
    error: dict[str, Any] | None = None
    predict_ms: float | None = None
    reason: str = ""
    canary: bool = False
    function: str = SOFTMAX
    trace: str | None = None
    request_id: str | None = None
    names: str | None = None


@dataclass(frozen=True, slots=True)
class Leased:
    """One prediction in a worker's hands until its lease ends.

    ``solo``: a lease of it was lost before, so that it is leased alone, and the Job gets nothing else until it is done.
    """

    id: str
    token: str
    images: int
    size: int
    top_k: int
    attempt: int
    solo: bool
    function: str = SOFTMAX
    trace: str | None = None
    request_id: str | None = None


Place: TypeAlias = tuple[int, int, float]
"""Where a prediction stands in the order of its tier: its priority, its turn, and when it was accepted."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What a worker was given, and the place of the first prediction of its lane that was left; None: none waits.

    ``turn`` is the turn that its tier has reached with what was given; 0 if that says nothing of it.
    """

    leased: list[Leased]
    next: Place | None
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Beside:
    """What a Job holds that is not in the table: how many predictions, and the bytes of their pictures."""

    many: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """A lease of a prediction that is not in the table yet."""

    job: str
    token: str
    started_at: float


@dataclass(frozen=True, slots=True)
class Arrival:
    """A prediction that comes into the table after it was accepted; ``hold`` says which worker has it, if any has.

    ``start`` is where it starts in the share of its caller; its turn is the whole part.
    """

    submission: Submission
    accepted_at: float
    start: float
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission. ``new``: False for an older prediction that its idempotency key stands for.

    ``finish`` is where the caller's next prediction starts, by what the table shows; 0 unless this one is new.
    """

    prediction: Prediction
    new: bool
    finish: float = 0.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A prediction that has come into the table, and where the caller's next one starts, by what the table shows."""

    prediction: Prediction
    finish: float


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of one lease: ``error`` (``{"code", "detail"}``) makes it failed.

    ``model`` is NAME@VERSION of the model that answered, None if no worker did. ``function`` made its scores.
    """

    id: str
    token: str
    results: list[Any] | None
    error: dict[str, Any] | None
    predict_ms: float | None
    model: str | None = None
    function: str = SOFTMAX


@dataclass(frozen=True, slots=True)
class Position:
    """Where a waiting prediction stands in its tier; the next one to be leased is at position 1."""

    position: int
    ahead: int


@dataclass(frozen=True, slots=True)
class Lane:
    """How much of the canary's lane is alive, and when the oldest waiting prediction of it was accepted."""

    queued: int
    leased: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class Depth:
    """How much of a tier is alive, and when the oldest waiting prediction was accepted.

    ``bytes`` are those of the pictures of all of these predictions. ``canary`` is the part of them that is of the
    canary's lane; None: nothing is.
    """

    queued: int
    leased: int
    oldest: float | None
    bytes: int = 0
    canary: Lane | None = None

    def waited(self, now: float) -> float:
        """For how many seconds the oldest one has waited; 0 if none waits."""
        return now - self.oldest if self.oldest is not None else 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a tier answered lately; the figure is None while ``sample`` is 0."""

    sample: int
    predict_seconds: float | None


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """How many predictions were moved into which state. ``more``: there may be others, so call again."""

    requeued: int = 0
    failed: int = 0
    expired: int = 0
    aborted: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class Breaker:
    """How many of the latest Jobs in a row were of no use, and when the next one may start."""

    strikes: int
    retry_at: float


@dataclass(frozen=True, slots=True)
class Lending:
    """How a tier stands to its part of the capacity. All but ``recalled`` are numbers from 0 to 1 of the capacity.

    ``share`` is its part, ``used`` its dominant share: the largest of what its Jobs use of any resource. ``borrowed``
    is what it uses beyond its part, and ``lent`` what others use of it. ``recalled`` counts its workers that were
    recalled and have not gone yet.
    """

    share: float
    used: float
    borrowed: float
    lent: float
    recalled: int


@dataclass(frozen=True, slots=True)
class TierView:
    """What the leader last saw of a tier.

    ``running`` counts its live Jobs, the ``starting`` ones among them, which have not asked for work yet; ``room`` says
    how many more the engine would take. ``quota`` is by resource. ``healthy`` tells whether Jobs could be started;
    ``reason`` says why not, or why a prediction waits. ``caution`` says what is wrong although Jobs can run.
    ``breaker`` is None unless the latest Jobs of the main model were of no use. ``lending`` is None without a capacity.
    ``seen_at`` is when that was reported, None when it never was.
    """

    running: int = 0
    starting: int = 0
    room: int = 0
    quota: Mapping[str, Usage] = field(default_factory=dict, hash=False)
    healthy: bool = False
    reason: str = "no server has looked at this tier yet"
    caution: str = ""
    breaker: Breaker | None = None
    lending: Lending | None = None
    seen_at: float | None = None


NEVER_SEEN = TierView()
