"""What every engine offers the dispatcher, and the words on a manifest that it is found again by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from server.quantity import parse_quantity

Manifest = Mapping[str, Any]

LABEL_NAME = "app.kubernetes.io/name"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_TIER = "tierserve.dev/tier"
LABEL_RUN = "tierserve.dev/run"
APP = "tierserve"

UNLIMITED = 1000
ROUNDING = 1e-9  # 1.8 + 0.2 must fit 2


def job_name(tier: str, run: str) -> str:
    """The name of the Job of one run: the same for the same run, so starting twice is harmless."""
    return f"{APP}-{tier}-{run}"


def job_labels(tier: str, run: str) -> dict[str, str]:
    """The labels that every Job and its pod carry."""
    return {LABEL_NAME: APP, LABEL_MANAGED_BY: APP, LABEL_TIER: tier, LABEL_RUN: run}


class EngineError(Exception):
    """The engine could not do it: the text says why, in a sentence for an operator."""


class NoRoom(EngineError):
    """The tier's quota refuses one more Job now: a normal answer, to be asked again later."""


class Phase(StrEnum):
    """How far a Job has come."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """A Job as its engine sees it. ``reason`` is a sentence, empty where nothing is wrong."""

    name: str
    tier: str
    phase: Phase
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """One resource of a tier's quota: what it may use in all and what it uses now, in the resource's base unit."""

    hard: float
    used: float


@dataclass(frozen=True, slots=True)
class Room:
    """How many more Jobs of a tier the engine would take now, and why not more."""

    jobs: int
    reason: str
    quota: Mapping[str, Usage]


@dataclass(frozen=True, slots=True)
class Pod:
    """One process of the service, in the words of Kubernetes."""

    node: str
    ip: str
    namespace: str
    name: str
    status: str


class Engine(ABC):
    """Runs Jobs. Every call blocks, is bounded by a timeout, and raises ``EngineError`` when it cannot answer."""

    @abstractmethod
    def room(self, tier: str, manifest: Manifest) -> Room:
        """How many more Jobs like ``manifest`` the tier's quota takes now."""

    @abstractmethod
    def jobs(self) -> Sequence[Job]:
        """Every Job that is still known, finished ones too."""

    @abstractmethod
    def start(self, manifest: Manifest) -> None:
        """Start the Job; a Job of that name already there is success. Raises ``NoRoom`` over quota."""

    @abstractmethod
    def stop(self, name: str) -> None:
        """End the Job, by SIGTERM and its grace first, and forget it; an unknown name is success."""

    @abstractmethod
    def pods(self) -> Sequence[Pod]:
        """The pods of every tier."""

    @abstractmethod
    def close(self) -> None:
        """Let go when the server ends: what would run on unwatched is ended, with its grace."""


def fit(quota: Mapping[str, str], running: Sequence[Mapping[str, str]], requests: Mapping[str, str]) -> Room:
    """Room for more Jobs of these ``requests`` beside the ``running`` ones, by quantities as Kubernetes writes them.

    A resource that the quota does not name is not limited; ``pods`` counts one a Job.
    """
    usage: dict[str, Usage] = {}
    jobs, reason = UNLIMITED, ""
    for resource, hard_text in quota.items():
        hard = float(parse_quantity(hard_text))
        needed = 1.0 if resource == "pods" else float(parse_quantity(requests.get(resource, "0")))
        used = sum(1.0 if resource == "pods" else float(parse_quantity(one.get(resource, "0"))) for one in running)
        usage[resource] = Usage(hard, used)
        fits = int((hard - used) / needed + ROUNDING) if needed else UNLIMITED
        if fits < jobs:
            jobs = max(0, fits)
            reason = f"quota {resource}: {used:g} of {hard:g} used, a worker takes {needed:g}"
    return Room(jobs, reason, usage)
