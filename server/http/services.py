"""The services that handlers use."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from server.access.allowances import Allowances
from server.access.keyring import Keyring
from server.access.operators import AdminToken
from server.access.workers import Credentials
from server.activity import Activity
from server.blobs import Blobs, Files
from server.engines.base import Engine, Pod
from server.http.crews import Crews
from server.http.descriptors import shares
from server.http.following import Following
from server.http.lately import Lately
from server.http.rates import Rates
from server.http.showing import Showing
from server.http.silence import Silence
from server.http.slow_bodies import SlowBodies
from server.http.streams import Streams
from server.http.wakeups import Lookout, Wakeups
from server.intake.admission import Gate
from server.intake.memory import Memory
from server.intake.pictures import Pictures
from server.intake.storage_check import StorageCheck
from server.intake.submissions import Submissions
from server.lobby import Handout, LaneOf, Lobby, Recalls, waiting_of
from server.metrics import Metrics
from server.models import Catalog, Measures, Record, ServingView, Store
from server.queue import (
    FINAL,
    Anything,
    AttemptLost,
    Available,
    Began,
    Depth,
    Ended,
    JobRecalled,
    Measured,
    Moved,
    News,
    Pace,
    Prediction,
    Queue,
    Recent,
    RecentByName,
    Strikes,
    TierView,
)
from server.settings.live import Live
from server.settings.records import Settings, Tier
from server.spans import Spans
from server.traces import trace_id_of

log = logging.getLogger(__name__)

RECENT_SECONDS = 0.1
SHOWN_SECONDS = 10 * RECENT_SECONDS  # of what only people and monitoring look at, and what costs more
TOKEN_CHECKS, TOKEN_CHECKS_PER_SECOND = 50, 5  # of one address; a worker needs one a minute
WRONG_KEYS = 10  # of one address in a minute
# With what the server takes at rest and with blobs in memory, all of them stay below 400 MB.
UPLOAD_BYTES, WORK_BYTES, FRAME_BYTES = 192 * 1024 * 1024, 16 * 1024 * 1024, 48 * 1024 * 1024
# Files of models that come and go at once. Each takes up to 5 MiB of memory; on its way into a bucket 20 MiB.
PUSHES, SENDS = 3, 16
NO_SPANS = Spans()


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one server. ``reviews`` is the thread pool in which worker tokens are checked, and nothing else.

    ``token_checks`` says how many each address may cause, ``wrong_keys`` how many wrong keys each may send.
    ``uploads`` counts the pictures of requests that are not accepted yet, ``work`` what workers send, and ``frames``
    the pictures on their way to workers, with the copies that are made of them. ``serving`` is what the tiers serve,
    ``models`` the records of that, by NAME@VERSION, and ``catalog`` finds any model. ``recalls`` says which workers
    were recalled. ``measures`` counts how the models do, and ``measured`` is what all servers have counted.
    ``activity`` counts what happens, and ``lately`` has what happened. ``log_command`` says how to see the
    log of a Job. ``internal_url`` is where workers of a cluster find the server, and empty on a laptop. ``following``
    is which predictions are followed, ``showing`` what is told of all tiers, ``streams`` which event streams are open,
    and ``underway`` which requests have no whole answer yet. ``spans`` takes what was done for a trace. ``big_json``
    lets one long text be parsed at a time.
    ``store`` has the models that were pushed; it is used in the threads of ``store_pool``, of which those that receive
    a file wait for its sender. ``pushes`` and ``sends`` count the files that are received and sent.
    """

    live: Live
    queue: Queue
    storage_check: StorageCheck
    pictures: Pictures
    submissions: Submissions
    keyring: Keyring
    admin_token: AdminToken
    credentials: Credentials
    reviews: Executor
    token_checks: Rates
    wrong_keys: Rates
    wakeups: Wakeups
    lobby: Lobby
    handout: Handout
    table_depths: Recent[dict[str, Depth]]
    views: Recent[dict[str, TierView]]
    paces: RecentByName[Pace]
    strikes: RecentByName[Strikes]
    crews: Crews
    pods: Recent[Sequence[Pod]]
    models: Recent[Mapping[str, Record]]
    serving: ServingView
    recalls: Recalls
    catalog: Catalog
    activity: Activity
    lately: Lately
    log_command: Callable[[Tier, str], str]
    measures: Measures
    measured: Recent[dict[tuple[str, str], Measured]]
    gate: Gate
    allowances: Allowances
    uploads: Memory
    work: Memory
    frames: Memory
    slow_bodies: SlowBodies
    silence: Silence
    metrics: Metrics
    clock: Callable[[], float]
    internal_url: str
    store: Store
    store_pool: Executor
    following: Following
    showing: Showing
    streams: Streams
    spans: Spans
    pushes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PUSHES))
    sends: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SENDS))
    underway: set[object] = field(default_factory=set)
    big_json: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    @classmethod
    def over(
        cls,
        *,
        live: Live,
        queue: Queue,
        blobs: Blobs,
        files: Files,
        engine: Engine,
        credentials: Credentials,
        keyring: Keyring,
        admin_token: AdminToken,
        disk: Executor,
        cluster: Executor,
        reviews: Executor,
        store_pool: Executor,
        clock: Callable[[], float],
        storage_check: StorageCheck,
        catalog: Catalog | None = None,
        internal_url: str = "",
        recent_seconds: float = RECENT_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        shown_seconds: float = SHOWN_SECONDS,
        upload_bytes: int = UPLOAD_BYTES,
        spans: Spans = NO_SPANS,
    ) -> Services:
        """Those over this storage and this engine, which is asked for pods in the thread pool ``cluster``.

        Figures of the queue may be as old as ``recent_seconds``, and what is only shown, as ``shown_seconds``.
        """

        def pods() -> Future[Sequence[Pod]]:
            return cluster.submit(engine.pods, list(live.current.settings.tiers.values()))

        serving, known, recalls = ServingView(queue.serving), catalog or Catalog(queue), Recalls(queue.recalled)

        def records() -> Future[Mapping[str, Record]]:
            served = [serving.of(name) for name in live.current.settings.tiers]
            models = [model for one in served for model in (one.main, one.canary) if model]
            return disk.submit(known.records, {model.reference for model in models})

        depths, pictures = Recent(queue.depths, recent_seconds), Pictures(blobs, disk, storage_check)
        uploads, metrics = Memory(upload_bytes), Metrics(version("tierserve"), sorted(FINAL), monotonic)
        known_pods = Recent(pods, shown_seconds)
        activity = Activity(queue.count, queue.latest_minutes, lambda: live.current.settings.tiers, clock)

        def ended(prediction: Prediction) -> None:
            metrics.ended(prediction.tier, prediction.status)
            activity.ended(prediction.tier, prediction.status)
            activity.waited(prediction)
            _measure(metrics, prediction)
            spans.prediction(prediction)

        lobby = Lobby(queue, pictures, disk, lambda: live.current.settings, clock, ended, serving.of)

        allowances = Allowances(queue, clock, lobby.book.of_caller, recent_seconds)

        async def waiting(lane: LaneOf) -> int:
            return waiting_of(lane, lobby.depths(await depths.get()))

        return cls(
            live=live,
            queue=queue,
            storage_check=storage_check,
            pictures=pictures,
            submissions=Submissions(queue, pictures, disk, lobby.book.depth, lobby.shares, allowances),
            keyring=keyring,
            admin_token=admin_token,
            credentials=credentials,
            reviews=reviews,
            token_checks=Rates(TOKEN_CHECKS, TOKEN_CHECKS_PER_SECOND),
            wrong_keys=Rates(WRONG_KEYS, WRONG_KEYS / 60, monotonic),
            wakeups=Wakeups(),
            lobby=lobby,
            handout=Handout(queue, lobby, lambda: live.current.settings, waiting, serving.of, recalls.of),
            table_depths=depths,
            views=Recent(queue.views, recent_seconds),
            paces=RecentByName(queue.pace, shown_seconds),
            strikes=RecentByName(queue.strikes, shown_seconds),
            crews=Crews(queue, lobby.book.held, known_pods, serving.of, clock, recent_seconds),
            pods=known_pods,
            models=Recent(records, recent_seconds),
            serving=serving,
            recalls=recalls,
            catalog=known,
            activity=activity,
            lately=Lately(queue, shown_seconds),
            log_command=engine.log_command,
            measures=Measures(queue.measure, serving.of),
            measured=Recent(queue.measured, shown_seconds),
            gate=Gate(depths, storage_check, uploads, lobby.book.depth, allowances),
            allowances=allowances,
            uploads=uploads,
            work=Memory(WORK_BYTES),
            frames=Memory(FRAME_BYTES),
            slow_bodies=SlowBodies(monotonic),
            metrics=metrics,
            silence=Silence(monotonic),
            clock=clock,
            internal_url=internal_url,
            store=Store(queue, files, lambda: live.current.settings.models),
            store_pool=store_pool,
            following=Following(),
            showing=Showing(),
            streams=Streams(shares().streams),
            spans=spans,
        )

    def listen(self) -> None:
        """Have the queue's news wake those who wait on the running loop; count what ended here; delete its blobs.

        News can be lost, so those who wait for an end are looked after too.
        """
        loop = asyncio.get_running_loop()

        # The news comes on threads of the database, and ``wakeups`` belongs to the loop.
        def hear(news: Sequence[News]) -> None:
            loop.call_soon_threadsafe(self._hear, news)

        def clean_up(news: Sequence[News]) -> None:
            ended = list[str]()
            for one in news:
                if isinstance(one, Ended):
                    self.activity.waited(one.prediction)
                    _measure(self.metrics, one.prediction)
                    self.spans.prediction(one.prediction)
                elif isinstance(one, AttemptLost):
                    told = one.id, one.reason, one.request_id or "-", trace_id_of(one.trace) or "-"
                    log.warning("an attempt at %s failed: %s (request %s, trace %s)", *told)
                elif isinstance(one, Began):
                    self.metrics.worker_began(one.tier, one.seconds)
                elif isinstance(one, JobRecalled):
                    self.metrics.recalled(one.tier)
                elif isinstance(one, Moved) and one.status in FINAL:
                    self.metrics.ended(one.tier, one.status)
                    self.activity.ended(one.tier, one.status)
                    ended.append(one.id)
            if ended:
                loop.call_soon_threadsafe(self.pictures.forget_soon, ended)

        self.queue.listen(hear)
        self.queue.when_committed(self.metrics.committed)
        self.serving.changed = lambda: loop.call_soon_threadsafe(self.handout.served_changed)
        self.recalls.changed = lambda: loop.call_soon_threadsafe(self.handout.recalls_changed)
        Lookout(self.wakeups, self.queue.ended).start()
        self.allowances.start()
        # Own commits only, so that the sum over all servers counts each end once, and one of them deletes each blob.
        self.queue.listen(clean_up, own=True)

    def _hear(self, news: Sequence[News]) -> None:
        self.wakeups.hear(news)
        self.following.hear(news)
        self.showing.hear()
        for one in news:
            if isinstance(one, Available):
                self.handout.available(one.tier)
            elif isinstance(one, JobRecalled):
                self.recalls.add(one.job, one.reason)
                self.handout.recalls_changed()
            elif isinstance(one, Anything):
                self.handout.look()

    def look_at_tiers(self) -> None:
        """Read what the tiers serve and who was recalled, write what happened. Blocks. Raises what the queue raises."""
        self.serving.refresh()
        self.recalls.refresh()
        self.measures.flush()
        self.activity.flush()

    async def depths(self) -> dict[str, Depth]:
        """How much of each tier is alive, in the table and in the lobby. Raises what the queue raises."""
        return self.lobby.depths(await self.table_depths.get())

    @property
    def settings(self) -> Settings:
        """Those in force now."""
        return self.live.current.settings

    @property
    def keys_in_force(self) -> dict[str, Any]:
        """Return whether the keys are those that the database and the file hold now, and if not, why."""
        return {"current": not self.keyring.problem, "reason": self.keyring.problem}

    @property
    def in_force(self) -> dict[str, Any]:
        """Return whether the settings in force are those that the files contain now, and if not, why."""
        return {"current": not self.live.problem, "reason": self.live.problem}


def _measure(metrics: Metrics, prediction: Prediction) -> None:
    if prediction.started_at is not None and prediction.completed_at is not None:
        accepted = prediction.accepted_at
        metrics.took(prediction.tier, prediction.started_at - accepted, prediction.completed_at - accepted)
