"""Rights at the API server: which ones an account used, which ones it is granted, and what it may do."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import yaml

from tests.cluster.cluster import Cluster
from tests.e2e.deployment import NAMESPACE, RELEASE, Deployment

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"

Right = tuple[str, str, str, str]  # verb, API group, resource, namespace


def audited(cluster: Cluster) -> list[dict[str, Any]]:
    """Every request of the server's account to the API server."""
    lines = [line for path in cluster.logs.glob("audit*.log") for line in path.read_text().splitlines()]
    return [event for event in map(json.loads, lines) if event["user"]["username"] == ACCOUNT]


def right(event: dict[str, Any]) -> Right:
    """The right that a request needs."""
    what = event["objectRef"]
    resource = "/".join(filter(None, (what["resource"], what.get("subresource"))))
    return event["verb"], what.get("apiGroup", ""), resource, what.get("namespace", "")


def granted(deployment: Deployment) -> set[Right]:
    """The rights that all bindings of the cluster grant to the server's account."""
    found: set[Right] = set()
    for kind in ("Role", "ClusterRole"):
        roles = {place(role): role["rules"] for role in objects(deployment, kind)}
        for binding in objects(deployment, f"{kind}Binding"):
            subjects = [(one["kind"], one.get("namespace"), one["name"]) for one in binding.get("subjects", ())]
            if ("ServiceAccount", NAMESPACE, RELEASE) in subjects:
                space, reference = place(binding)[0], binding["roleRef"]
                assert reference["kind"] == kind
                for rule in roles[space, reference["name"]]:
                    assert rule.keys() == {"apiGroups", "resources", "verbs"}
                    found.update((*one, space) for one in product(rule["verbs"], rule["apiGroups"], rule["resources"]))
    return found


def objects(deployment: Deployment, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(deployment.cluster.kubectl("get", kind, "-A", "-o", "json"))["items"]
    return found


def place(found: dict[str, Any]) -> tuple[str, str]:
    return found["metadata"].get("namespace", ""), found["metadata"]["name"]


def may(deployment: Deployment, rights: list[Right]) -> dict[Right, bool]:
    """For each right, whether the API server says that the server's account has it."""
    reviews = []
    for verb, group, resource, space in rights:
        name, _, subresource = resource.partition("/")
        what = {"verb": verb, "group": group, "resource": name, "subresource": subresource, "namespace": space}
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}", "system:authenticated"]
        spec = {"user": ACCOUNT, "groups": groups, "resourceAttributes": what}
        reviews.append({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
    answers = deployment.cluster.kubectl("create", "-f", "-", "-o", "yaml", stdin=yaml.safe_dump_all(reviews))
    statuses = [answer["status"] for answer in documents(answers)]
    return {right: status["allowed"] for right, status in zip(rights, statuses, strict=True)}


def documents(text: str) -> list[dict[str, Any]]:
    """The objects that kubectl prints."""
    return [one for document in yaml.safe_load_all(text) if document for one in document.get("items", [document])]
