"""Jobs of a Kubernetes cluster, one worker pod each.

A Job over quota would be taken, get no pod and be retried blindly, up to a minute late: so none is created that the
live ResourceQuota has no room for, and nothing ever waits inside Kubernetes.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from server.engines import quotas
from server.engines.base import TERMINATING, Engine, EngineError, Job, NoRoom, Phase, Pod, Room, Stage, needs
from server.engines.cluster import ApiError, Cluster, Object
from server.settings.manifests import APP, LABEL_MANAGED_BY, LABEL_NAME, LABEL_TIER, BadManifest, Manifest
from server.settings.records import Tier

log = logging.getLogger(__name__)

SETTLE_SECONDS = 2.0  # so long a new Job may have no pod, or an unready one, before the engine asks why
CAUTION_SECONDS = 60.0  # how old the labels of a namespace may be
ENFORCE, RESTRICTED = "pod-security.kubernetes.io/enforce", "restricted"
LIMITS_SECONDS = 10.0  # how old the LimitRanges may be: room is asked for at every tick, and they change rarely
# In the message of the API server, which answers 403 both when a quota is full and when rights are missing.
QUOTA_EXCEEDED = "exceeded quota"
LABEL_JOB = "batch.kubernetes.io/job-name"
FORBIDDEN, NOT_FOUND, CONFLICT = 403, 404, 409
NEVER_ACCEPTED = (400, FORBIDDEN, NOT_FOUND, 422)


@dataclass(slots=True)
class _Known:
    """What is remembered of a Job between two looks."""

    namespace: str
    since: float
    had_pod: bool = False
    failure: str = ""


class KubernetesEngine(Engine):
    """Jobs go on when the server ends; the next one finds them. ``clock`` is monotonic, in seconds."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._lock = threading.Lock()  # guards which Jobs are known
        self._known: dict[str, dict[str, _Known]] = {}
        self._limits: dict[str, tuple[list[Object], float]] = {}
        self._cautions: dict[str, tuple[str, float]] = {}

    def check(self, manifest: Manifest) -> None:
        """A dry run with strict validation."""
        try:
            self._create(manifest, dry_run=True)
        except NoRoom:  # a dry run meets the quota too, which says nothing against the manifest
            return

    def room(self, tier: Tier, manifest: Manifest) -> Room:
        """What the live quotas leave, less what our Jobs without a pod will take, within the limits of one pod."""
        for what, item in self._limit_items(tier.namespace):
            if reason := quotas.beyond(item, manifest):
                return Room(0, f"the LimitRange {what} allows {reason}", {})
        with self._lock:
            podless = sum(not known.had_pod for known in self._known.get(tier.name, {}).values())
        return quotas.room(self._cluster.quotas(tier.namespace), manifest, podless, tier.job.gpu_resource)

    def jobs(self, tier: Tier) -> Sequence[Job]:
        """List by label; ask for pods and events only of Jobs that make no progress, or have failed."""
        labels = f"{LABEL_MANAGED_BY}={APP},{LABEL_TIER}={tier.name}"
        try:
            found = {job["metadata"]["name"]: job for job in self._cluster.jobs(tier.namespace, labels)}
        except ApiError as error:
            if error.status != FORBIDDEN:
                raise
            gone = f"the namespace {tier.namespace} is gone, or our rights there (helm upgrade brings both back)"
            raise EngineError(f"{gone}: {error}") from error
        with self._lock:
            before = self._known.get(tier.name, {})
            known = {name: before.get(name) or _Known(namespace=tier.namespace, since=self._clock()) for name in found}
            self._known[tier.name] = dict(known)  # a copy, as ``stop`` removes Jobs from it on another thread
        return [self._job(tier, name, job, known[name]) for name, job in found.items()]

    def start(self, tier: Tier, manifest: Manifest) -> None:
        """Create the Job; 409 is success. Until it is seen with a pod, room counts it as one without."""
        self._create(manifest)
        with self._lock:
            known = self._known.setdefault(tier.name, {})
            known[manifest["metadata"]["name"]] = _Known(namespace=tier.namespace, since=self._clock())

    def stop(self, name: str, *, at_once: bool = False) -> None:
        """Delete the Job and, in the background, its pod, which gets its grace.

        ``at_once``: the pod by force. On a node that is lost it would hold its part of the quota until Kubernetes gives
        the node up.
        """
        with self._lock:
            known = next((jobs[name] for jobs in self._known.values() if name in jobs), None)
        if known is None:
            return
        try:
            pods = self._pods_of(known.namespace, name) if at_once else []
            _unless_gone(self._cluster.delete_job, known.namespace, name)
            for pod in pods:
                _unless_gone(self._cluster.delete_pod, known.namespace, pod["metadata"]["name"])
        except ApiError as error:
            if error.status != FORBIDDEN:
                raise
            # The tier was removed, and with it the server's rights in its namespace.
            log.warning("Job %s stays in namespace %s: %s", name, known.namespace, error)
        with self._lock:
            for jobs in self._known.values():
                jobs.pop(name, None)

    def pods(self, tiers: Sequence[Tier]) -> Sequence[Pod]:
        """The workers' pods and the server's own, with the status that ``kubectl get pods`` shows."""
        wanted = [(tier.namespace, f"{LABEL_MANAGED_BY}={APP}") for tier in tiers]
        if self._cluster.namespace:
            wanted.append((self._cluster.namespace, f"{LABEL_NAME}={APP}"))
        found: list[Pod] = []
        for namespace, labels in wanted:
            try:
                found += [_pod(pod) for pod in self._cluster.pods(namespace, labels)]
            except ApiError as error:
                if error.status not in (FORBIDDEN, NOT_FOUND):
                    raise
                log.warning("no pods are shown of namespace %s: %s", namespace, error)
        return found

    def caution(self, tier: Tier) -> str:
        """Whether the tier's namespace refuses pods that Pod Security calls unrestricted; looked at once a minute."""
        text, at = self._cautions.get(tier.namespace, ("", -math.inf))
        if self._clock() - at >= CAUTION_SECONDS:
            with suppress(EngineError):
                text = self._pod_security(tier.namespace)
            self._cautions[tier.namespace] = text, self._clock()
        return text

    def log_command(self, tier: Tier, name: str) -> str:
        """By kubectl."""
        return f"kubectl --namespace {tier.namespace} logs job/{name}"

    def close(self) -> None:
        """Nothing: leases and Jobs outlive a server."""

    def _pod_security(self, namespace: str) -> str:
        try:
            level = self._cluster.labels(namespace).get(ENFORCE, "")
        except ApiError as error:
            if error.status not in (FORBIDDEN, NOT_FOUND):
                raise
            return f"Pod Security is not known, because the namespace {namespace} cannot be read: {error}"
        if level == RESTRICTED:
            return ""
        found = f"Pod Security does not enforce {RESTRICTED} in the namespace {namespace}, but {level or 'nothing'}"
        return f"{found}: kubectl label namespace {namespace} {ENFORCE}={RESTRICTED} --overwrite"

    def _create(self, manifest: Manifest, *, dry_run: bool = False) -> None:
        try:
            self._cluster.create_job(manifest["metadata"]["namespace"], manifest, dry_run=dry_run)
        except ApiError as error:
            if error.status == FORBIDDEN and QUOTA_EXCEEDED in str(error):
                raise NoRoom(str(error)) from error
            if error.status in NEVER_ACCEPTED:
                raise BadManifest(str(error)) from error
            if error.status != CONFLICT:
                raise

    def _job(self, tier: Tier, name: str, job: Object, known: _Known) -> Job:
        status = job.get("status", {})
        ended = {one["type"]: one for one in status.get("conditions", ()) if one["status"] == "True"}
        known.had_pod |= bool(ended or status.get("active") or status.get("succeeded") or status.get("failed"))
        if "Complete" in ended:
            return Job(name=name, tier=tier.name, phase=Phase.SUCCEEDED)
        if "Failed" in ended:
            # Asked for once: a failed Job is listed at each look until its time to live is over.
            known.failure = known.failure or self._failure(tier, name, ended["Failed"])
            return Job(name=name, tier=tier.name, phase=Phase.FAILED, reason=known.failure)
        running = Job(name=name, tier=tier.name, phase=Phase.RUNNING, needs=needs(job))
        if status.get("ready") or self._clock() - known.since < SETTLE_SECONDS:
            return running
        if known.had_pod:
            return replace(running, reason=self._pod_trouble(tier, name))
        reason = self._no_pod(tier, name)
        return replace(running, phase=Phase.OVER_QUOTA if QUOTA_EXCEEDED in reason else Phase.RUNNING, reason=reason)

    def _no_pod(self, tier: Tier, name: str) -> str:
        """Why the Job got no pod."""
        events = self._cluster.events(tier.namespace, name, "FailedCreate")
        latest = max(events, key=lambda event: event.get("lastTimestamp") or "", default=None)
        return str(latest["message"]) if latest else ""

    def _pod_trouble(self, tier: Tier, name: str) -> str:
        """What keeps the Job's pod from running; empty when it is only slow."""
        for pod in self._pods_of(tier.namespace, name):
            if trouble := _trouble(pod):
                return trouble
        return ""

    def _failure(self, tier: Tier, name: str, condition: Object) -> str:
        if condition.get("reason") == "DeadlineExceeded":
            return "it ran into its deadline (activeDeadlineSeconds)"
        endings = [ending for pod in self._pods_of(tier.namespace, name) if (ending := _ending(pod))]
        return endings[-1] if endings else str(condition.get("message", "it failed"))

    def _pods_of(self, namespace: str, name: str) -> list[Object]:
        return self._cluster.pods(namespace, f"{LABEL_JOB}={name}")

    def _limit_items(self, namespace: str) -> Iterator[tuple[str, Object]]:
        found, at = self._limits.get(namespace, ([], -LIMITS_SECONDS))
        if self._clock() - at >= LIMITS_SECONDS:
            found = self._cluster.limit_ranges(namespace)
            self._limits[namespace] = found, self._clock()
        for limits in found:
            for item in limits["spec"]["limits"]:
                yield limits["metadata"]["name"], item


def _unless_gone(delete: Callable[[str, str], None], namespace: str, name: str) -> None:
    try:
        delete(namespace, name)
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise


def _trouble(pod: Object) -> str:
    status = pod.get("status", {})
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return f"Unschedulable: {condition.get('message', '')}"
    for container in status.get("containerStatuses", ()):
        waiting = container["state"].get("waiting", {})
        if waiting.get("reason", "ContainerCreating") not in ("ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    return ""


def _ending(pod: Object) -> str:
    status = pod.get("status", {})
    for container in status.get("containerStatuses", ()):
        if ended := container["state"].get("terminated"):
            said = (ended.get("message") or "").strip().splitlines()
            cause = "" if ended.get("reason") in (None, "Error", "Completed") else f"{ended['reason']}, "
            return f"{cause}exit code {ended['exitCode']}{': ' + said[-1][:300] if said else ''}"
    return ": ".join(part for part in (status.get("reason"), status.get("message")) if part)


def _stage(pod: Object) -> Stage | None:
    """How far a pod of a Job has come; None for one that has ended."""
    status = pod.get("status", {})
    if status.get("phase") in ("Succeeded", "Failed"):
        return None
    if not pod["spec"].get("nodeName"):
        return Stage.PENDING
    # The kubelet tells of a container as soon as it has taken the pod up. The condition PodReadyToStartContainers says
    # nothing here: most versions tell it only after the image was pulled.
    states = [container["state"] for container in status.get("containerStatuses", ())]
    if any("running" in state for state in states):
        return Stage.LOADING
    return Stage.PULLING if states else Stage.SCHEDULED


def _pod(pod: Object) -> Pod:
    metadata, status = pod["metadata"], pod.get("status", {})
    shown = status.get("reason") or status.get("phase", "Unknown")
    for container in status.get("containerStatuses", ()):
        state: Mapping[str, Any] = container["state"]
        shown = state.get("waiting", state.get("terminated", {})).get("reason", shown)
    if "deletionTimestamp" in metadata:
        shown = TERMINATING
    job = metadata.get("labels", {}).get(LABEL_JOB)
    return Pod(
        node=pod["spec"].get("nodeName", ""),
        ip=status.get("podIP", ""),
        namespace=metadata["namespace"],
        name=metadata["name"],
        status=shown,
        job=job,
        stage=_stage(pod) if job else None,
        reason=_trouble(pod),
    )
