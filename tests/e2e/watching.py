"""What comes and goes in a tier's namespace, as the API server tells it."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from contextlib import suppress
from typing import Any

from tests.cluster.cluster import Kubernetes


class Watch:
    """A watch of a namespace's worker pods, or Jobs, by kubectl: which were there at the same time, and since when."""

    def __init__(self, cluster: Kubernetes, namespace: str, kind: str) -> None:
        words = ["--kubeconfig", str(cluster.kubeconfig), "--namespace", namespace, "get", kind, "--watch"]
        words += ["--selector=app.kubernetes.io/managed-by=tierserve", "--output-watch-events", "-o", "json"]
        command = [str(cluster.binaries / "kubectl"), *words]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._live: set[str] = set()
        self.most = 0
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def seen(self) -> set[str]:
        """The names of all that there were."""
        return set(self.began)

    def stop(self) -> None:
        """End the watch."""
        self._process.terminate()
        self._process.wait(10)
        self._thread.join(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        decoder, text = json.JSONDecoder(), ""
        for line in self._process.stdout:
            text += line
            with suppress(json.JSONDecodeError):
                event, end = decoder.raw_decode(text.lstrip())
                text = text.lstrip()[end:]
                self._take(event["type"], event["object"])

    def _take(self, kind: str, found: dict[str, Any]) -> None:
        name, now = found["metadata"]["name"], time.monotonic()
        self.began.setdefault(name, now)
        if kind == "DELETED" or found.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            self._live.discard(name)
            self.ended.setdefault(name, now)
        else:
            self._live.add(name)
        self.most = max(self.most, len(self._live))
