"""The settings as frozen records: what the server is told, with units, and what an empty value means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model a tier's workers run."""

    name: str
    """The name of its directory among the model directories."""
    variant: str
    """``fp32`` or ``int8``; the runtime ``timm`` runs ``fp32`` only."""
    runtime: str
    """``onnx`` or ``timm``."""


@dataclass(frozen=True, slots=True)
class JobShape:
    """One worker Job."""

    image: str
    """``repository:tag``; has no meaning on a laptop."""
    image_pull_policy: str
    """``Always``, ``IfNotPresent`` or ``Never``."""
    cpu: str
    """A quantity: what one worker asks for, and may use at most."""
    memory: str
    """A quantity, in bytes: what one worker asks for, and may use at most."""
    max_predictions: int
    """A worker ends after so many predictions."""
    deadline: int
    """Seconds after which Kubernetes ends the Job, whatever it does: a guard against costs."""
    grace: int
    """Seconds between SIGTERM and SIGKILL."""
    ttl: int
    """Seconds that a failed Job stays, so that it can be looked at."""
    node_selector: Mapping[str, str] = field(hash=False)
    """Labels that a node must have, as in a pod; empty: any node."""
    tolerations: Sequence[Mapping[str, Any]] = field(hash=False)
    """As in a pod; may be empty."""
    priority_class_name: str
    """The name of a PriorityClass; empty: the cluster's default."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may ask of a tier."""

    queue: int
    """Predictions that may wait."""
    images: int
    """Pictures in one request."""
    image_bytes: int
    """Bytes of one picture, as it is sent."""
    image_pixels: int
    """Pixels of one picture, decoded."""
    attempts: int
    """Leases of a prediction that may be lost before it fails."""


@dataclass(frozen=True, slots=True)
class Waits:
    """How long things of a tier may take, in seconds."""

    sync: float
    """A request is held so long for its result, unless its client says otherwise."""
    queue: float
    """A prediction that is not done by then ends; clients may ask for less."""
    results: float
    """Results are kept so long after their end."""
    idle: float
    """A worker without work ends after so long."""
    start: float
    """A Job that has not asked for work by then is replaced."""


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier."""

    name: str
    namespace: str
    """Where its Jobs run; no other tier's do."""
    template: str
    """The file name of its Job template."""
    model: ModelChoice
    quota: Mapping[str, str] = field(hash=False)
    """``cpu``, ``memory`` and ``pods`` as quantities, each only where it is limited."""
    job: JobShape
    limits: Limits
    waits: Waits


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """The clockwork of leases, in seconds."""

    seconds: float
    """A worker that was silent for so long is replaced, and what it holds goes to another one."""
    heartbeat: float
    """A worker shows that it lives so often, busy or idle."""
    reclaim: float
    """Lost leases and passed deadlines are looked for so often."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the server is told."""

    host: str
    """The address that both ports listen on."""
    port: int
    """For clients; 0 stands for any free port."""
    internal_port: int
    """For workers and operators; 0 stands for any free port."""
    lease: LeaseTimes
    tick: float
    """Seconds after which the leader looks by itself for Jobs to start."""
    tiers: Mapping[str, Tier] = field(hash=False)
    """By name, in the order of the values file."""
