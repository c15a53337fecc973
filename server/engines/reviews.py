"""Finds out whose token a worker shows: the API server reviews the pod's own service-account token.

The token has the audience ``tierserve``, so the API server accepts it for no request; the kubelet renews it, and it
ends with its pod. The tier follows from the pod's namespace, the Job from the pod's name.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TypeVar

from server.access.workers import AccessDenied, AccessUnknown, Credentials, Worker
from server.engines.base import EngineError
from server.engines.cluster import ApiError, Cluster
from server.settings.manifests import APP, SERVICE_ACCOUNT

FRESH_SECONDS = 60.0  # how long a review counts, and so how long a deleted pod keeps its access
STALE_SECONDS = 600.0  # how long it counts while the API server answers nothing
# How long it counts while the API server answers others, or refuses to review (it is too busy, or gives us no right).
REFUSED_SECONDS = 120.0
AGAIN_SECONDS = 10.0  # how often one request asks meanwhile, and waits; the others go by the last review
BUSY_SECONDS = 1.0  # the same for an API server that is only too busy
DENIED_SECONDS = 10.0  # how long the API server is not asked again for a token that it did not know
MOST_KEPT, MOST_CHARACTERS = 4096, 8192
DENIED = "the worker token is not that of a pod of one of this server's tiers"
POD_NAME = "authentication.kubernetes.io/pod-name"

T = TypeVar("T")


class WorkerReviews(Credentials):
    """``tiers`` gives the tier of each namespace that workers may come from. Safe from any thread."""

    def __init__(
        self, cluster: Cluster, tiers: Callable[[], Mapping[str, str]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster, self._tiers, self._clock = cluster, tiers, clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, tuple[Worker, float]] = OrderedDict()
        self._denied: OrderedDict[bytes, float] = OrderedDict()
        self._again_at, self._counts = -math.inf, STALE_SECONDS

    def recall(self, token: str) -> Worker | None:
        """Return the worker of a token that was reviewed lately. Raises ``AccessDenied`` for one that is not ours."""
        if worker := self._recent(token, self._counts if self._clock() < self._again_at else FRESH_SECONDS):
            return worker
        with self._lock:
            denied = self._clock() - self._denied.get(_key(token), -math.inf) < DENIED_SECONDS
        if denied or len(token) > MOST_CHARACTERS or not self._ours(token):
            raise AccessDenied(DENIED)
        return None

    def check(self, token: str) -> Worker:
        """Ask the API server; while it does not answer, go by the last review."""
        # Other requests may have asked while this one waited for a thread of the pool.
        if worker := self.recall(token):
            return worker
        # While this request asks, the others must not wait for the API server as well.
        if self._again_at > -math.inf:
            self._again_at = self._clock() + AGAIN_SECONDS
        try:
            status = self._cluster.review(token, APP)
            self._again_at = -math.inf
        except EngineError as error:
            silent = not isinstance(error, ApiError) or error.outage
            self._counts = STALE_SECONDS if silent and not self._cluster.lists(FRESH_SECONDS) else REFUSED_SECONDS
            self._again_at = self._clock() + (AGAIN_SECONDS if silent else BUSY_SECONDS)
            if worker := self._recent(token, self._counts):
                return worker
            raise AccessUnknown(f"the worker token cannot be checked: {error}") from error
        key = _key(token)
        user = status.get("user", {})
        kind, _, account = user.get("username", "").partition(":serviceaccount:")
        namespace, _, name = account.partition(":")
        tier = self._tiers().get(namespace)
        pods = user.get("extra", {}).get(POD_NAME, [])
        ours = status.get("authenticated") and APP in status.get("audiences", ()) and kind == "system"
        with self._lock:
            self._kept.pop(key, None)
            if not (ours and name == SERVICE_ACCOUNT and tier and len(pods) == 1):
                _keep(self._denied, key, self._clock())
                raise AccessDenied(DENIED)
            worker = Worker(tier, pods[0].rpartition("-")[0])  # Kubernetes names the pod JOB-SUFFIX
            _keep(self._kept, key, (worker, self._clock()))
        return worker

    def _ours(self, token: str) -> bool:
        """Whether the token looks like that of one of our pods; this proves nothing, but costs no request."""
        try:
            _, body, _ = token.split(".")
            claims = json.loads(base64.urlsafe_b64decode(body + "=="))
            system, kind, namespace, name = claims["sub"].split(":")
            ours = (system, kind, name) == ("system", "serviceaccount", SERVICE_ACCOUNT) and namespace in self._tiers()
            return ours and APP in claims["aud"]
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
            return False

    def _recent(self, token: str, seconds: float) -> Worker | None:
        with self._lock:
            worker, at = self._kept.get(_key(token), (None, 0.0))
        return worker if worker and self._clock() - at < seconds else None


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


def _keep(kept: OrderedDict[bytes, T], key: bytes, value: T) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > MOST_KEPT:
        kept.popitem(last=False)
