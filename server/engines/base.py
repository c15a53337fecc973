"""What every engine offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from server.settings.manifests import Manifest
from server.settings.quantity import Usage, parse_quantity
from server.settings.records import Tier

UNLIMITED = 1000
TERMINATING = "Terminating"  # the status of a pod that was told to end
GPUS = "gpus"  # as quotas name them in the values; Kubernetes names them as ``job.gpuResource`` says
ROUNDING = 1e-9  # (2 - 1.1) / 0.9 is less than 1 in floats, and one more Job of 0.9 fits


class EngineError(Exception):
    """The engine could not do it: the text says why, in a sentence for an operator."""


class NoRoom(EngineError):
    """The tier's quota refuses one more Job now: a normal answer, to be asked again later."""


class Phase(StrEnum):
    """How far a Job has come. ``OVER_QUOTA``: it was taken, but the quota lets it have no pod."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    OVER_QUOTA = "over quota"


@dataclass(frozen=True, slots=True)
class Job:
    """A Job as its engine sees it. ``reason`` says what is wrong, or what keeps it from starting; else it is empty.

    ``needs`` is what it takes of its tier's quota while it runs, as quantities by resource.
    """

    name: str
    tier: str
    phase: Phase
    reason: str = ""
    needs: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Room:
    """How many more Jobs of a tier the engine would take now, and why not more."""

    jobs: int
    reason: str
    quota: Mapping[str, Usage]


class Stage(StrEnum):
    """How far the pod of a Job has come that has not asked for work yet.

    ``PENDING``: it has no node. ``SCHEDULED``: it has one. ``PULLING``: the node is pulling its image, or making
    its container. ``LOADING``: its process runs.
    """

    PENDING = "pending"
    SCHEDULED = "scheduled"
    PULLING = "pulling"
    LOADING = "loading"


@dataclass(frozen=True, slots=True)
class Pod:
    """One process of the service, in the words of Kubernetes.

    ``job`` is the Job that it works for, None if it is the server's own. ``stage`` is None for such a pod, and for one
    that has ended. ``reason`` says what keeps it from running; it is empty when nothing is known.
    """

    node: str
    ip: str
    namespace: str
    name: str
    status: str
    job: str | None = None
    stage: Stage | None = None
    reason: str = ""


class Engine(ABC):
    """Runs Jobs. Every call blocks, ends within a timeout, and raises ``EngineError`` when it cannot answer.

    Any thread may call ``stop``, ``pods`` and ``log_command``; only one thread calls the others.
    """

    @abstractmethod
    def check(self, manifest: Manifest) -> None:
        """Whether this Job could be started if there were room. Raises ``BadManifest`` when it never could."""

    @abstractmethod
    def room(self, tier: Tier, manifest: Manifest) -> Room:
        """How many more Jobs like ``manifest`` the tier's quota takes now."""

    @abstractmethod
    def jobs(self, tier: Tier) -> Sequence[Job]:
        """Every Job of the tier that is still known, finished ones too."""

    @abstractmethod
    def start(self, tier: Tier, manifest: Manifest) -> None:
        """Start a Job of the tier; one of that name already there is success. Raises ``NoRoom`` over quota."""

    @abstractmethod
    def stop(self, name: str, *, at_once: bool = False) -> None:
        """End the Job, by SIGTERM and its grace first, and forget it; an unknown name is success.

        ``at_once``: without any grace, and without waiting for a machine that may be gone to say that it is done.
        """

    @abstractmethod
    def pods(self, tiers: Sequence[Tier]) -> Sequence[Pod]:
        """The pods of these tiers, and those of the service itself where it runs in pods."""

    def caution(self, tier: Tier) -> str:
        """What is wrong with the place of the tier's Jobs although they can run there; empty when nothing is known."""
        return ""

    def log_command(self, tier: Tier, name: str) -> str:
        """The command that shows the log of a Job as long as there is one; empty when there is none. Never blocks."""
        return ""

    @abstractmethod
    def close(self) -> None:
        """End, with their grace, the Jobs that must not outlive the server."""


def needs(manifest: Manifest) -> dict[str, str]:
    """What one Job takes of a tier's quota: the requests of its container, and one pod.

    The only devices that a Job may request are GPUs.
    """
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    requests = container.get("resources", {}).get("requests", {})  # a Job with our labels may be somebody else's
    return {"pods": "1", **{GPUS if "/" in name else name: value for name, value in requests.items()}}


def fit(hard: Mapping[str, float], used: Mapping[str, float], needed: Mapping[str, str]) -> Room:
    """Room for more Jobs that take ``needed`` each, where ``used`` of ``hard`` is taken.

    A resource that ``hard`` does not name is not limited.
    """
    usage = {resource: Usage(most, used.get(resource, 0.0)) for resource, most in hard.items()}
    jobs, reason = UNLIMITED, ""
    for resource, of in usage.items():
        one = float(parse_quantity(needed.get(resource, "0")))
        fits = int((of.hard - of.used) / one + ROUNDING) if one else UNLIMITED
        if fits < jobs:
            jobs = max(0, fits)
            reason = f"quota {resource}: {of.used:g} of {of.hard:g} used, a worker takes {one:g}"
    return Room(jobs, reason, usage)
