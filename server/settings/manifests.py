"""The manifest of a Job: its name, and the labels by which engines and people find it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Manifest = Mapping[str, Any]

LABEL_NAME = "app.kubernetes.io/name"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_TIER = "tierserve.dev/tier"
LABEL_RUN = "tierserve.dev/run"
APP = "tierserve"
SERVER_LABELS = frozenset({LABEL_NAME, LABEL_MANAGED_BY, LABEL_TIER, LABEL_RUN})
"""Only the server sets these labels of a Job."""
SERVICE_ACCOUNT = "tierserve-worker"


class WhichModel(Protocol):
    """What a Job must know of its model, such as ``server.queue.Served``."""

    @property
    def reference(self) -> str:
        """``NAME@VERSION``."""

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal; empty: any model of this reference in the worker's folder."""


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model by what is said of it, of which nobody knows whether it exists."""

    reference: str
    digest: str


class BadManifest(Exception):
    """No engine can ever run this Job, because its template or its values are wrong."""


def job_name(tier: str, run: str) -> str:
    """Return the name of the Job of one run. It follows from the run, so that a second start makes no second Job."""
    return f"{APP}-{tier}-{run}"


def job_labels(tier: str, run: str) -> dict[str, str]:
    """Return the labels that every Job and its pod have."""
    return {LABEL_NAME: APP, LABEL_MANAGED_BY: APP, LABEL_TIER: tier, LABEL_RUN: run}
