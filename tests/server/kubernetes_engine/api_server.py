"""An API server that answers what a test sets, and the objects that it answers with.

tests/e2e runs the engine against a real API server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.engines.cluster import ApiError, Cluster, Object
from server.settings.manifests import Manifest
from server.settings.render import Renderer
from server.settings.values import load

FREE = load().tiers["free"]
JOB = Renderer().job(FREE, "abc", "http://server:8081")
NAME = JOB["metadata"]["name"]


class FakeCluster(Cluster):
    """Answers every call from ``answers``, or with ``refusal`` if that is set.

    It records what it was asked to create, to delete, and to delete by force.
    """

    def __init__(self) -> None:
        self.namespace = "tierserve"
        self.answers: dict[str, list[Object]] = {}
        self.refusal: ApiError | None = None
        self.namespace_labels: dict[str, str] = {}
        self.labels_asked = 0
        self.created: list[tuple[str, bool]] = []
        self.deleted: list[tuple[str, str]] = []
        self.forced: list[tuple[str, str]] = []

    def _list(self, method: Any, *arguments: Any, **options: Any) -> list[Object]:
        raise AssertionError("every list is answered below")

    def jobs(self, namespace: str, labels: str) -> list[Object]:
        return self.answers.get("jobs", [])

    def pods(self, namespace: str, labels: str) -> list[Object]:
        return self.answers.get("pods", [])

    def quotas(self, namespace: str) -> list[Object]:
        return self.answers.get("quotas", [])

    def limit_ranges(self, namespace: str) -> list[Object]:
        return self.answers.get("limits", [])

    def events(self, namespace: str, job: str, reason: str) -> list[Object]:
        return self.answers.get("events", [])

    def labels(self, namespace: str) -> Mapping[str, str]:
        self.labels_asked += 1
        if self.refusal:
            raise self.refusal
        return self.namespace_labels

    def create_job(self, namespace: str, manifest: Manifest, *, dry_run: bool = False) -> None:
        if self.refusal:
            raise self.refusal
        self.created.append((namespace, dry_run))

    def delete_job(self, namespace: str, name: str) -> None:
        self.deleted.append((namespace, name))
        if self.refusal:
            raise self.refusal

    def delete_pod(self, namespace: str, name: str) -> None:
        self.forced.append((namespace, name))


def quota(
    hard: Mapping[str, str], used: Mapping[str, str], counted: Mapping[str, str] | None = None, **spec: Any
) -> Object:
    """A ResourceQuota. ``counted`` is the hard value that its controller has counted with, if not yet ``hard``."""
    return {"spec": {"hard": hard, **spec}, "status": {"hard": hard if counted is None else counted, "used": used}}


def job(**status: Any) -> Object:
    return {"metadata": {"name": NAME}, "spec": JOB["spec"], "status": status}


def pod(**status: Any) -> Object:
    return {
        "metadata": {"name": f"{NAME}-x", "namespace": "tierserve-free"},
        "spec": {"nodeName": "n1"},
        "status": status,
    }
