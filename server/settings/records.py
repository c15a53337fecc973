"""The settings as frozen records, with the unit of each value and the meaning of an empty one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Canary:
    """Another model, for a part of a tier's predictions."""

    name: str
    """Which one of the models, as in ``ModelChoice``."""
    percent: float
    """The part of the predictions, more than 0 and at most 100."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model a tier's workers run."""

    name: str
    """Which one of the models: ``NAME``, ``NAME@VERSION`` or ``NAME@TAG``."""
    variant: str
    """``fp32`` or ``int8``; the runtime ``timm`` runs ``fp32`` only."""
    runtime: str
    """``onnx`` or ``timm``."""
    canary: Canary | None = None
    """With the same variant and runtime."""


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
    """The number of predictions after which a worker ends."""
    deadline: int
    """Seconds after which Kubernetes ends the Job whatever it does, to limit costs."""
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
    affinity: Mapping[str, Any] = field(hash=False)
    """As in a pod; may be empty."""
    runtime_class_name: str
    """The name of a RuntimeClass; empty: the cluster's default."""
    labels: Mapping[str, str] = field(hash=False)
    """Of the Job and its pod, beside those that the server sets."""
    annotations: Mapping[str, str] = field(hash=False)
    """Of the Job and its pod."""
    env: Mapping[str, str] = field(hash=False)
    """More environment variables of the worker."""
    model_storage: str
    """A quantity, in bytes: the disk that one worker has for a model that it gets from the server."""
    gpus: int
    """How many GPUs one worker has; with any, it runs on ``cuda``."""
    gpu_resource: str
    """The name that Kubernetes has for these GPUs."""
    batch: int
    """Pictures that one worker classifies at once, at most."""
    user: int
    """The number of its user and group; 0: those that the cluster chooses."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may ask of a tier."""

    queue: int
    """Predictions that may wait."""
    queue_bytes: int
    """Bytes that the pictures of all predictions that have not ended may take."""
    images: int
    """Pictures in one request."""
    image_bytes: int
    """Bytes of one picture, as the client sends it."""
    image_pixels: int
    """Pixels of one picture, decoded."""
    attempts: int
    """Leases of a prediction that may be lost before it fails."""


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What one caller may ask of a tier; 0 is no limit."""

    per_second: float = 0
    """Requests with pictures in a second, on average."""
    burst: int = 0
    """Such requests at once, after a pause; 0: ``per_second``, rounded up."""
    per_day: int = 0
    """Pictures that are accepted in a day, which begins at midnight UTC."""
    queued: int = 0
    """Predictions that wait."""
    bytes_queued: int = 0
    """Bytes of the pictures of predictions that wait."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use a tier."""

    anonymous: bool
    """Whether callers without a key may."""
    limits: CallerLimits
    """Of each caller, unless its key has others."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Time limits of a tier, in seconds."""

    sync: float
    """How long a request waits for its result, unless its client says otherwise."""
    queue: float
    """How long a prediction may take until it expires; clients may ask for less."""
    results: float
    """How long a result is kept after the prediction has ended."""
    idle: float
    """How long a worker without work stays."""
    start: float
    """How long a Job may take until it asks for work; after that it is replaced."""


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier."""

    name: str
    namespace: str
    """The namespace of its Jobs, which it shares with no other tier."""
    template: str
    """The file name of its Job template."""
    model: ModelChoice
    quota: Mapping[str, str] = field(hash=False)
    """``cpu``, ``memory``, ``pods`` and ``gpus`` as quantities, each only where it or the capacity limits it."""
    job: JobShape
    access: Access
    limits: Limits
    waits: Waits
    share: int = 1
    """Its weight when the tiers divide ``Settings.capacity``, from 1 to 1000."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How large the models may be that are pushed to the server."""

    bytes: int
    """Of the files of all models together."""
    model_bytes: int
    """Of the files of one model."""


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """The times of leases, in seconds."""

    seconds: float
    """How long a lease lasts. A worker that is silent for so long is replaced, and others get its predictions."""
    heartbeat: float
    """How often a worker contacts the server, busy or idle."""
    reclaim: float
    """How often the server looks for expired leases and passed deadlines."""


@dataclass(frozen=True, slots=True)
class Tracing:
    """Where the spans of traces go."""

    endpoint: str
    """The URL of a collector, without the path of traces; empty: nowhere."""
    ratio: float
    """Which part of the traces that begin at the server is sampled, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the server."""

    host: str
    """The address of both listeners."""
    hosts: tuple[str, ...]
    """The names in ``Host`` that are served; empty: the loopback names on a loopback address, else every name."""
    trusted_proxies: tuple[str, ...]
    """Networks, in CIDR notation, whose ``X-Forwarded-For`` is believed."""
    cors_origins: tuple[str, ...]
    """The origins whose pages may ask, as browsers send them; ``("*",)``: all."""
    require_keys: bool
    """Whether ``Tier.access`` applies on a loopback address, too."""
    access_log: str
    """``text``, ``json`` or ``off``."""
    tracing: Tracing
    port: int
    """For clients; 0 stands for any free port."""
    internal_port: int
    """For workers and operators; 0 stands for any free port."""
    models: StoreLimits
    lease: LeaseTimes
    tick: float
    """Seconds after which the leader looks for Jobs to start even if nothing has happened."""
    lobby_seconds: float
    """How long a request may wait in memory, and then be worked on, before it is written to disk; 0: no lobby."""
    tiers: Mapping[str, Tier] = field(hash=False)
    """By name, in the order of the values file."""
    capacity: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What the Jobs of all tiers may use together, by the keys of ``Tier.quota``, each more than 0; empty: no limit."""
