"""What other people put into a cluster: pods, policies that refuse pods, and limits."""

from __future__ import annotations

import json
from typing import Any

POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: tierserve-no-pods}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  validations: [{expression: "false", message: no pods on Sundays}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: tierserve-no-pods}
spec:
  policyName: tierserve-no-pods
  validationActions: [Deny]
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: tierserve-refused}}}
"""
PRIORITY = """
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: none-such}
value: 0
description: Made by a test of tierserve.
"""
LIMITS = """
apiVersion: v1
kind: LimitRange
metadata: {name: somebody}
spec: {limits: [{type: Container, max: {cpu: 500m}, default: {cpu: 500m}, defaultRequest: {cpu: 500m}}]}
"""


def stranger(name: str, **spec: Any) -> str:
    """The manifest of a pod that does nothing and satisfies Pod Security "restricted". ``spec`` adds to its spec."""
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
