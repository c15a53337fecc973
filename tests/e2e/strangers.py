"""Pods that are not tierserve's, and satisfy Pod Security "restricted" all the same."""

from __future__ import annotations

import json
from typing import Any


def stranger(name: str, **spec: Any) -> str:
    """A manifest for kubectl: a pod that does nothing, with more of a spec."""
    rights = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    amounts = {"cpu": "10m", "memory": "16Mi"}
    container = {
        "name": "pause",
        "image": "localhost/pause:1",
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": rights,
    }
    pod = {
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10002, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod | spec})
