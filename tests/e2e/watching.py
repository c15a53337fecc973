"""Watches the workers that come and go in the namespaces of tiers, by the API server's events."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.cluster.cluster import Kubernetes
from tests.e2e.things import Thing
from tests.waiting import eventually

PATHS = {"pods": "/api/v1/{}pods", "jobs": "/apis/batch/v1/{}jobs"}
OURS = "labelSelector=app.kubernetes.io/managed-by=tierserve"
SETTLE_SECONDS = 30.0


class Watch:
    """Watches the worker pods or Jobs of a namespace: when each began and ended, and how many there were at once.

    An empty namespace stands for all of them.
    """

    def __init__(self, cluster: Kubernetes, namespace: str, kind: str) -> None:
        path = f"{PATHS[kind].format(namespace and f'namespaces/{namespace}/')}?{OURS}"
        listed = json.loads(cluster.kubectl("get", "--raw", path))
        self._live: set[str] = set()
        self.most = 0
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.last: dict[str, Thing] = {}
        for item in listed["items"]:
            self._take("ADDED", item)
        path += f"&watch=1&resourceVersion={listed['metadata']['resourceVersion']}"
        command = [str(cluster.binaries / "kubectl"), "--kubeconfig", str(cluster.kubeconfig), "get", "--raw", path]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=cluster.environment())
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def seen(self) -> set[str]:
        """The names of all that ever existed."""
        return set(self.began)

    def settled(self, what: str, enough: Callable[[tuple[int, int]], object]) -> None:
        """Wait until enough have begun and ended. A watch learns of that a little later than other requests."""
        eventually(lambda: (len(self.began), len(self.ended)), SETTLE_SECONDS, what, enough)

    def stop(self) -> None:
        """End the watch. Raises ``AssertionError`` if it ended earlier, because then it may have missed something."""
        early = self._process.poll()
        self._process.terminate()
        self._process.wait(10)
        self._thread.join(10)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.stdout.close()
        with self._process.stderr as complaints:
            assert early is None, f"the watch ended early with {early}: {complaints.read()}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            self._take(event["type"], event["object"])

    def _take(self, kind: str, found: dict[str, Any]) -> None:
        name, now = found["metadata"]["name"], time.monotonic()
        self.began.setdefault(name, now)
        self.last[name] = Thing(found)
        if kind == "DELETED" or found.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            self._live.discard(name)
            self.ended.setdefault(name, now)
        else:
            self._live.add(name)
        self.most = max(self.most, len(self._live))
