"""What is told of the live Jobs of each tier: their state, where they run, and what they hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from server.engines.base import TERMINATING, Pod, Stage
from server.models import OUTDATED, lane
from server.queue import JobRow, Queue, Recent, Serving

# A Job that was given work a moment ago is busy. So a worker of another server's lobby is too, of which the table hears
# once a second, and a worker that is between two pictures does not seem idle.
BUSY_SECONDS = 2.0
PODS_SECONDS = 30.0  # how old what the engine told may be
ENDING = "its pod is ending"


@dataclass(frozen=True, slots=True)
class LiveJob:
    """A Job that is not over, as it is told to readers. Moments are epoch seconds.

    ``state`` is ``starting``, ``idle``, ``busy`` or ``leaving``. ``since`` is when it was opened while it is starting;
    when it last was given work, or asked for it first, while it is idle or busy; and when its worker was recalled, or
    its model ceased to be served, while it is leaving. ``model`` is ``Served.key``. ``predictions`` counts what it
    holds, as far as this server knows. ``stage`` is how far its start has come, None if it has started or that is not
    known; an unknown ``node`` is empty.
    """

    name: str
    state: str
    model: str
    opened_at: float
    since: float
    predictions: int
    reason: str = ""
    stage: Stage | None = None
    node: str = ""


class Crews:
    """The live Jobs of each tier, at most ``recent_seconds`` old.

    ``held`` has what they hold of the lobby, by Job; the engine's answer about ``pods`` is not waited for.
    """

    def __init__(
        self,
        queue: Queue,
        held: Callable[[], Mapping[str, int]],
        pods: Recent[Sequence[Pod]],
        serving: Callable[[str], Serving],
        clock: Callable[[], float],
        recent_seconds: float,
    ) -> None:
        self._loads = Recent(queue.loads, recent_seconds)
        self._held, self._pods, self._serving, self._clock = held, pods, serving, clock

    async def get(self) -> Mapping[str, list[LiveJob]]:
        """All of them by tier, the oldest first. Raises what the queue raises."""
        loads, held, pods, now = await self._loads.get(), self._held(), self._pods.latest(PODS_SECONDS), self._clock()
        pod_of = {pod.job: pod for pod in pods or ()}
        found: defaultdict[str, list[LiveJob]] = defaultdict(list)
        for row, many in loads:
            one = live_job(row, many + held.get(row.name, 0), self._serving(row.tier), now)
            found[row.tier].append(one if pods is None else _in_pod(one, pod_of.get(row.name)))
        return found


def live_job(row: JobRow, predictions: int, serving: Serving, now: float) -> LiveJob:
    """What is told at ``now`` of a Job that holds so many predictions and whose tier serves this."""
    if row.recalled_at is not None:
        return LiveJob(row.name, "leaving", row.model, row.opened_at, row.recalled_at, predictions, row.reason)
    if row.asked_at is None:
        return LiveJob(row.name, "starting", row.model, row.opened_at, row.opened_at, predictions)
    since = max(row.asked_at, row.leased_at or 0.0)
    if lane(row.model, serving) is None and serving.main is not None:
        left = max(row.asked_at, serving.main.since)
        return LiveJob(row.name, "leaving", row.model, row.opened_at, left, predictions, OUTDATED)
    busy = predictions > 0 or (row.leased_at is not None and now - row.leased_at < BUSY_SECONDS)
    return LiveJob(row.name, "busy" if busy else "idle", row.model, row.opened_at, since, predictions)


def _in_pod(job: LiveJob, pod: Pod | None) -> LiveJob:
    """The Job with what the engine told of its pod; None: it has none."""
    if pod is None:
        return replace(job, stage=Stage.PENDING) if job.state == "starting" else job
    if pod.status == TERMINATING and job.state != "leaving":
        job = replace(job, state="leaving", reason=ENDING)
    stage = pod.stage if job.state == "starting" else None
    return replace(job, node=pod.node, stage=stage, reason=job.reason or pod.reason)
