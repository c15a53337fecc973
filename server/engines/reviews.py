"""Finds out whose token a worker shows: the API server reviews the pod's own service-account token.

The token has the audience ``tierserve``, so the API server accepts it for no request; the kubelet renews it, and it
ends with its pod. The tier follows from the pod's namespace, the Job from the pod's name.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from server.access.workers import AccessDenied, AccessUnknown, Credentials, Worker
from server.engines.base import EngineError
from server.engines.cluster import Cluster
from server.settings.manifests import APP, SERVICE_ACCOUNT

FRESH_SECONDS = 60.0  # how long a review counts, and so how long a deleted pod keeps its access
STALE_SECONDS = 600.0  # how long it counts while the API server does not answer
AGAIN_SECONDS = 10.0  # how often one request asks meanwhile, and waits; the others go by the last review
MOST_KEPT = 4096
POD_NAME = "authentication.kubernetes.io/pod-name"


class WorkerReviews(Credentials):
    """``tiers`` gives the tier of each namespace that workers may come from. Safe from any thread."""

    def __init__(
        self, cluster: Cluster, tiers: Callable[[], Mapping[str, str]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster, self._tiers, self._clock = cluster, tiers, clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, tuple[Worker, float]] = OrderedDict()
        self._again_at = -math.inf

    def recall(self, token: str) -> Worker | None:
        """Return the worker of a token that was reviewed lately."""
        return self._recent(token, STALE_SECONDS if self._clock() < self._again_at else FRESH_SECONDS)

    def check(self, token: str) -> Worker:
        """Ask the API server; while it does not answer, go by the last review."""
        if not token:
            raise AccessDenied("no worker token was shown")
        # Other requests may have asked in vain while this one waited for a thread of the pool.
        if self._clock() < self._again_at and (worker := self.recall(token)):
            return worker
        # While this request asks, the others must not wait for the API server as well.
        if self._again_at > -math.inf:
            self._again_at = self._clock() + AGAIN_SECONDS
        try:
            status = self._cluster.review(token, APP)
            self._again_at = -math.inf
        except EngineError as error:
            self._again_at = self._clock() + AGAIN_SECONDS
            if worker := self._recent(token, STALE_SECONDS):
                return worker
            raise AccessUnknown(f"the worker token cannot be checked: {error}") from error
        key = hashlib.sha256(token.encode()).digest()
        user = status.get("user", {})
        kind, _, account = user.get("username", "").partition(":serviceaccount:")
        namespace, _, name = account.partition(":")
        tier = self._tiers().get(namespace)
        pods = user.get("extra", {}).get(POD_NAME, [])
        ours = status.get("authenticated") and APP in status.get("audiences", ()) and kind == "system"
        with self._lock:
            self._kept.pop(key, None)
            if not (ours and name == SERVICE_ACCOUNT and tier and len(pods) == 1):
                raise AccessDenied("the worker token is not that of a pod of one of this server's tiers")
            worker = Worker(tier, pods[0].rpartition("-")[0])  # Kubernetes names the pod JOB-SUFFIX
            self._kept[key] = worker, self._clock()
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return worker

    def _recent(self, token: str, seconds: float) -> Worker | None:
        with self._lock:
            worker, at = self._kept.get(hashlib.sha256(token.encode()).digest(), (None, 0.0))
        return worker if worker and self._clock() - at < seconds else None
