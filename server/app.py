"""The composition root: the only place that names concrete engines, pools and listeners."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from server.access.keyring import Keyring
from server.access.keys import Pepper
from server.access.operators import ADMIN_TOKEN, PEPPER, AdminToken, BadSecret, given_secret, kept_secret
from server.access.workers import Credentials, WorkerTokens
from server.engines.base import Engine, EngineError
from server.engines.local import LocalEngine
from server.http import binding
from server.http.descriptors import raise_limit
from server.http.routes import internal_server, public_server
from server.http.services import PUSHES, Services
from server.intake.storage_check import LOOK_SECONDS, StorageCheck
from server.leader.leader import Leader
from server.leader.loop import Loop
from server.models import Catalog, Models, Orphans, unserved
from server.queue import Anything, Available, KeysChanged, ModelsChanged, News, PepperDiffers, Queue, QueueError
from server.settings.live import Live
from server.settings.records import Settings, Tracing
from server.shipped import ROOT
from server.spans import Spans
from server.storage import Storage

log = logging.getLogger(__name__)

DISK_THREADS, STORE_THREADS = 4, 32  # an object store takes its time, and takes many at once
CLUSTER_THREADS, REVIEW_THREADS = 1, 2
MODEL_THREADS = PUSHES + 4  # one for each file that comes, however slowly, and others for what is read
# The server pod's terminationGracePeriodSeconds in the chart counts on these 20 s.
LAST_ANSWERS_SECONDS, LAST_ANSWERS_LOOK = 20.0, 0.02
KEYS_SECONDS = SERVING_SECONDS = 1.0  # how often these are looked at, since a notice of a change may be lost
LAST_LOOK_SECONDS = 3.0  # how long a server that stops waits for a look at its storage, which can hang


class CannotServe(Exception):
    """The server cannot start: the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Where Jobs run, how their workers show who they are, and where they find the server (None: on this machine).

    ``models`` is the folder of models of this machine, or of the records of those in the workers' image (None: there is
    no such folder).
    """

    engine: Engine
    credentials: Credentials
    server_url: str | None = None
    models: Path | None = None

    def catalog(self, queue: Queue) -> Catalog:
        """All models that workers can load."""
        folder = None if self.models is None else Models(self.models, image=self.server_url is not None)
        return Catalog(queue, folder)


def local_workers(state: Path, models: Path) -> Workers:
    """Subprocesses of this machine. Raises ``CannotServe`` for a bad state folder."""
    # Workers get these variables only: those of the server may contain the password of the database.
    base = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(Path.home()),
        "PYTHONUNBUFFERED": "1",
        "TIERSERVE_MODELS": str(models.resolve()),
    }
    tokens = WorkerTokens(secrets.token_bytes(32))  # need not outlive this process: local workers end with it
    try:
        return Workers(LocalEngine(base, tokens.mint, state / "logs", state / "tmp", ROOT), tokens, models=models)
    except OSError as error:
        raise CannotServe(f"{error.filename} cannot be used for workers: {error.strerror}") from error


def cluster_workers(live: Live, server_url: str, models: Path | None) -> Workers:
    """Jobs of the cluster that this runs in, or that KUBECONFIG names. Raises ``CannotServe`` when it names none."""
    try:
        from server.engines.cluster import Cluster
        from server.engines.kubernetes import KubernetesEngine
        from server.engines.reviews import WorkerReviews
    except ModuleNotFoundError as error:
        raise CannotServe(f"--engine kubernetes needs kubernetes: pip install tierserve[cluster] ({error})") from error

    try:
        cluster = Cluster.connect()
    except EngineError as error:
        raise CannotServe(str(error)) from error

    # Called at each review of a token, because tiers come and go while the server runs.
    def namespaces() -> dict[str, str]:
        return {tier.namespace: tier.name for tier in live.current.settings.tiers.values()}

    return Workers(KubernetesEngine(cluster), WorkerReviews(cluster, namespaces), server_url, models)


@dataclass(frozen=True, slots=True)
class Access:
    """What keys are made with, what opens the operators' routes, and a file or folder of hashed keys (None: none)."""

    pepper: Pepper
    admin_token: AdminToken
    keys_file: Path | None = None

    @classmethod
    def from_files(cls, state: Path, pepper: Path | None, admin_token: Path | None, keys: Path | None = None) -> Access:
        """That of these files, or of those in the state folder, which are made there. Raises ``CannotServe``."""
        try:
            peppered = given_secret(pepper) if pepper else kept_secret(state, PEPPER)
            token = given_secret(admin_token) if admin_token else kept_secret(state, ADMIN_TOKEN)
        except BadSecret as error:
            raise CannotServe(str(error)) from error
        return cls(Pepper(peppered), AdminToken(token), keys)


class Server:
    """A server on its storage. ``start`` and ``stop`` run on the event loop."""

    def __init__(self, live: Live, storage: Storage, workers: Workers, access: Access) -> None:
        """Take the storage and the ports. Raises ``CannotServe`` or ``server.queue.CannotOpen``."""
        settings = live.current.settings
        raise_limit()
        # Before the ports are bound: opening may take 30 s, and clients that connect meanwhile would wait for so long.
        self._storage = storage.open()
        database, blobs = self._storage.database, self._storage.blobs
        try:
            self._public_sockets = binding.bind(settings.port, settings.host, "server.port")
            self._internal_sockets = binding.bind(settings.internal_port, settings.host, "server.internalPort")
        except binding.CannotListen as error:
            raise CannotServe(str(error)) from error
        self.settings = settings
        disk_threads = DISK_THREADS if self._storage.pictures is not None else STORE_THREADS
        self._disk = ThreadPoolExecutor(disk_threads, "disk")
        # Pools of their own: no request waits behind calls to an API server that does not answer, and no worker behind
        # people who look at pods.
        self._cluster = ThreadPoolExecutor(CLUSTER_THREADS, "cluster")
        self._reviews = ThreadPoolExecutor(REVIEW_THREADS, "reviews")
        self._models = ThreadPoolExecutor(MODEL_THREADS, "models")
        queue, clock = Queue(database), database.clock
        storage_check = StorageCheck(queue, blobs, self._storage.disks, self._storage.pictures)
        self._watching = Loop("watching the storage", storage_check.step, lambda: LOOK_SECONDS, daemon=True)
        keyring = _keyring(queue, access, clock)
        self._keys = Loop("reading the keys", keyring.refresh, lambda: KEYS_SECONDS, daemon=True)
        self.services = Services.over(
            live=live,
            queue=queue,
            blobs=blobs,
            files=self._storage.files,
            engine=workers.engine,
            credentials=workers.credentials,
            keyring=keyring,
            admin_token=access.admin_token,
            disk=self._disk,
            cluster=self._cluster,
            reviews=self._reviews,
            store_pool=self._models,
            clock=clock,
            storage_check=storage_check,
            catalog=workers.catalog(queue),
            internal_url=workers.server_url or "",
            spans=_spans(settings.tracing),
        )
        with suppress(QueueError, TimeoutError):  # the first predictions shall go where the last ones went
            self.services.serving.refresh()
            self.services.recalls.refresh()
        self._serving = Loop("looking at the tiers", self.services.look_at_tiers, lambda: SERVING_SECONDS, daemon=True)
        self.internal_url = binding.url(self._internal_sockets, settings.host)
        url = workers.server_url or self.internal_url
        catalog = workers.catalog(queue)  # of its own: what the leader uses shall not push out what readers use
        if workers.server_url is None:
            _tell_of_models(queue, catalog, settings)
        orphans, alive = Orphans(queue, self._storage.files), self.services.lobby.depths
        self._leader = Leader(live, queue, blobs, workers.engine, url, catalog, orphans, clock, alive)

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return binding.url(self._public_sockets, self.settings.host)

    def start(self) -> None:
        """Serve, and lead when no other server does."""
        self._public, self._internal = public_server(self.services), internal_server(self.services)
        self._public.add_sockets(self._public_sockets)
        self._internal.add_sockets(self._internal_sockets)
        self.services.listen()
        self.services.queue.listen(self._nudge)
        self.services.handout.unserved = self.services.handout.vacated = self._leader.nudge
        self._leader.start()
        self._watching.start()
        self._keys.start()
        self._serving.start()

    async def stop(self) -> None:
        """Answer the waiting clients, end the workers, close everything. Nothing that was accepted is lost."""
        loop = asyncio.get_running_loop()
        self.services.wakeups.drain()
        self.services.streams.drain()
        self.services.handout.stop()
        self._public.stop()
        self._leader.stop()
        # Off the loop, and while the internal port still answers: workers that end hand in what they have.
        await loop.run_in_executor(None, self._leader.join)
        await self._wait_until_answered(loop.time() + LAST_ANSWERS_SECONDS)
        self.services.slow_bodies.stop()
        for server in (self._public, self._internal):
            server.stop()
            await server.close_all_connections()
        await self.services.allowances.stop()
        for looking in (self._watching, self._keys, self._serving):
            looking.stop()
            await loop.run_in_executor(None, looking.join, LAST_LOOK_SECONDS)
        await loop.run_in_executor(None, self._storage.database.close)
        await loop.run_in_executor(None, self.services.spans.close)
        self.services.pictures.forget_now()
        self._disk.shutdown()
        self._models.shutdown()
        self._cluster.shutdown(wait=False)
        self._reviews.shutdown(wait=False)
        self._storage.close()

    def _nudge(self, news: Sequence[News]) -> None:
        if any(isinstance(one, Available | Anything) for one in news):
            self._leader.nudge()
        if any(isinstance(one, KeysChanged | Anything) for one in news):
            self._keys.nudge()
        if any(isinstance(one, ModelsChanged | Anything) for one in news):
            self._serving.nudge()
            self._leader.nudge()

    async def _wait_until_answered(self, end: float) -> None:
        """Until every request under way, uploads too, has its answer."""
        while self.services.underway and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110 (once in a life)
            await asyncio.sleep(LAST_ANSWERS_LOOK)


async def serve(server: Server, ready: Callable[[Server], None]) -> None:
    """Run a server until SIGTERM or SIGINT; ``ready`` is called once it takes requests."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    server.start()
    try:
        ready(server)
        await told.wait()
        log.info("stopping: workers finish what they hold")
    finally:
        await server.stop()


def _spans(tracing: Tracing) -> Spans:
    """Where the spans of traces go. Raises ``CannotServe``."""
    if not tracing.endpoint:
        return Spans()
    try:
        from server.tracing import Exporter
    except ImportError as error:
        detail = f"server.tracing.endpoint needs OpenTelemetry: pip install 'tierserve[tracing]' ({error})"
        raise CannotServe(detail) from error
    return Spans(Exporter(tracing.endpoint, version("tierserve")), tracing.ratio)


def _keyring(queue: Queue, access: Access, clock: Callable[[], float]) -> Keyring:
    """All keys, so that none is refused at the start. Raises ``CannotServe``."""
    keyring = Keyring(queue, access.pepper, clock, access.keys_file)
    try:
        keyring.refresh()
    except PepperDiffers as error:
        raise CannotServe(f"{error}: name the file of that one with --pepper-file") from error
    except (QueueError, TimeoutError) as error:
        raise CannotServe(f"the keys cannot be read: {error}") from error
    return keyring


def _tell_of_models(queue: Queue, catalog: Catalog, settings: Settings) -> None:
    """Tell what the tiers lack. Raises ``CannotServe`` if none of them can serve anything."""
    try:
        lacking = unserved(queue, catalog, settings.tiers)
    except (QueueError, TimeoutError) as error:
        raise CannotServe(f"the models cannot be read: {error}") from error
    if len(lacking) == len(settings.tiers) and not any(instead for _, instead in lacking.values()):
        raise CannotServe("\n".join(dict.fromkeys(why for why, _ in lacking.values())))
    for name, (why, instead) in lacking.items():
        until = f"the tier {name} goes on with {instead}" if instead else f"no worker can start for the tier {name}"
        log.error("%s. Until then %s", why, until)
