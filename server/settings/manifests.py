"""The manifest of a Job: its name, and the labels by which engines and people find it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Manifest = Mapping[str, Any]

LABEL_NAME = "app.kubernetes.io/name"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_TIER = "tierserve.dev/tier"
LABEL_RUN = "tierserve.dev/run"
APP = "tierserve"
SERVICE_ACCOUNT = "tierserve-worker"


class BadManifest(Exception):
    """No engine would ever run this Job: its template or its values are wrong."""


def job_name(tier: str, run: str) -> str:
    """The name of the Job of one run: the same for the same run, so starting twice is harmless."""
    return f"{APP}-{tier}-{run}"


def job_labels(tier: str, run: str) -> dict[str, str]:
    """The labels that every Job and its pod carry."""
    return {LABEL_NAME: APP, LABEL_MANAGED_BY: APP, LABEL_TIER: tier, LABEL_RUN: run}
