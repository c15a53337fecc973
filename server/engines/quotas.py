"""What the ResourceQuotas and LimitRanges of a namespace leave for our Jobs; pure."""

from __future__ import annotations

from collections.abc import Iterable

from server.engines.base import GPUS, Room, fit
from server.engines.cluster import Object
from server.settings.manifests import Manifest
from server.settings.quantity import parse_quantity


def room(quotas: Iterable[Object], manifest: Manifest, podless: int, gpu_resource: str) -> Room:
    """Return the room for more Jobs like ``manifest``, less what ``podless`` of them that have no pod yet will take.

    In a quota, ``gpu_resource`` is the name of GPUs.
    """
    needed = _needs(manifest)
    needed[GPUS] = needed.get(gpu_resource, "0")
    hard: dict[str, float] = {}
    used: dict[str, float] = {}
    for quota in quotas:
        if not _concerns(quota, manifest):
            continue
        for resource, (most, taken) in _usage(quota).items():
            # A Job without a pod is counted as a Job already, and as nothing else yet.
            ahead = 0.0 if resource.startswith("count/jobs") else podless * _number(needed.get(resource))
            name = resource.removeprefix("requests.").removeprefix("limits.")  # the two are equal in our Jobs
            name = GPUS if name == gpu_resource else name
            if name not in hard or most - taken - ahead < hard[name] - used[name]:
                hard[name], used[name] = most, taken + ahead
    return fit(hard, used, needed)


def beyond(item: Object, manifest: Manifest) -> str:
    """How an item of a LimitRange forbids the pod of a Job like ``manifest``; empty when it does not."""
    if item["type"] not in ("Container", "Pod"):
        return ""
    needed = _needs(manifest)
    for resource, most in item.get("max", {}).items():
        if _number(needed.get(resource)) > _number(most):
            return f"at most {most} of {resource}, a worker takes {needed[resource]}"
    for resource, least in item.get("min", {}).items():
        if _number(needed.get(resource)) < _number(least):
            return f"at least {least} of {resource}, a worker takes {needed.get(resource, 0)}"
    return ""


def _needs(manifest: Manifest) -> dict[str, str]:
    """What one Job takes, by the names that a ResourceQuota has for it."""
    resources = manifest["spec"]["template"]["spec"]["containers"][0]["resources"]
    needed = {"pods": "1", "count/pods": "1", "count/jobs.batch": "1"}
    for name, value in resources["requests"].items():
        needed |= {name: value, f"requests.{name}": value}
    return needed | {f"limits.{name}": value for name, value in resources["limits"].items()}


def _number(quantity: str | None) -> float:
    return float(parse_quantity(quantity)) if quantity is not None else 0.0


def _usage(quota: Object) -> dict[str, tuple[float, float]]:
    """Return (hard, used) by resource. One that has no count yet is taken to be used up, as the API server does."""
    status = quota.get("status", {})
    counted, taken = status.get("hard", {}), status.get("used", {})
    found = {}
    for resource, text in quota["spec"].get("hard", {}).items():
        # After a change of ``spec``, the API server goes by ``status`` until its controller has caught up.
        hard = min(_number(text), _number(counted.get(resource, text)))
        found[resource] = hard, _number(taken[resource]) if resource in taken else hard
    return found


def _concerns(quota: Object, manifest: Manifest) -> bool:
    """Whether a quota's scopes include our pods, which have requests, and no deadline of their own."""
    pod = manifest["spec"]["template"]["spec"]
    scopes = [{"scopeName": name, "operator": "Exists"} for name in quota["spec"].get("scopes", ())]
    for scope in [*scopes, *quota["spec"].get("scopeSelector", {}).get("matchExpressions", ())]:
        if scope["scopeName"] in ("Terminating", "BestEffort", "CrossNamespacePodAffinity"):
            return False
        if scope["scopeName"] == "PriorityClass" and not _matches(scope, pod.get("priorityClassName")):
            return False
    return True


def _matches(scope: Object, value: str | None) -> bool:
    values = scope.get("values", ())
    match scope["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return bool(value)
    return not value
