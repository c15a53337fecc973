"""The composition root: the only place that names concrete engines, pools and listeners."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from server.access.workers import Credentials, WorkerTokens
from server.blobs import DirectoryBlobs, FreshBlobs
from server.engines.base import Engine, EngineError
from server.engines.local import LocalEngine
from server.http.base import BaseHandler, NotFoundHandler, Services
from server.http.internal import metrics, worker
from server.http.public import health, predictions, tiers
from server.http.wakeups import Wakeups
from server.intake.admission import Budget, Gate
from server.leader.leader import Leader
from server.metrics import Metrics
from server.queue import FINAL, Anything, Available, Moved, News
from server.queue.asking import Recent
from server.queue.queue import Queue
from server.settings.live import Live
from server.settings.records import Settings
from server.settings.values import ROOT
from server.storage import Storage

log = logging.getLogger(__name__)

DISK_THREADS, STORE_THREADS, CLUSTER_THREADS = 4, 32, 2  # an object store takes its time, and takes many at once
RECENT_SECONDS = 0.1
BODY_SECONDS, IDLE_SECONDS = 60.0, 75.0
LAST_ANSWERS_SECONDS, LAST_ANSWERS_LOOK = 20.0, 0.02
UNBOUNDED = 1 << 40  # our own handlers bound bodies, with an answer instead of a closed connection
UPLOAD_BYTES = 256 * 1024 * 1024
INTERNAL_BODY_BYTES = 16 * 1024 * 1024


class CannotServe(Exception):
    """The server cannot start: the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Where Jobs run, how their workers show who they are, and where they find the server (None: on this machine)."""

    engine: Engine
    credentials: Credentials
    server_url: str | None = None


def local_workers(settings: Settings, state: Path, models: Path) -> Workers:
    """Subprocesses of this machine. Raises ``CannotServe`` when a tier's model is not there."""
    names = {tier.model.name for tier in settings.tiers.values()}
    missing = sorted(name for name in names if not (models / name / "model.json").is_file())
    if missing:
        raise CannotServe(
            f"{models} has no {', '.join(missing)}. Build what is missing: "
            f"python -m model build --output {models} {' '.join(missing)}"
        )
    base = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(Path.home()),
        "PYTHONUNBUFFERED": "1",
        "TIERSERVE_MODELS": str(models.resolve()),
    }
    tokens = WorkerTokens(secrets.token_bytes(32))
    return Workers(LocalEngine(base, tokens.mint, state / "logs", ROOT), tokens)


def cluster_workers(live: Live, server_url: str) -> Workers:
    """Jobs of the cluster that this runs in, or that KUBECONFIG names. Raises ``CannotServe`` when it names none."""
    from server.engines.cluster import Cluster
    from server.engines.kubernetes import KubernetesEngine
    from server.engines.reviews import WorkerReviews

    try:
        cluster = Cluster.connect()
    except EngineError as error:
        raise CannotServe(str(error)) from error

    def namespaces() -> dict[str, str]:
        return {tier.namespace: tier.name for tier in live.current.settings.tiers.values()}

    return Workers(KubernetesEngine(cluster), WorkerReviews(cluster, namespaces), server_url)


class Server:
    """A server on its storage. ``start`` and ``stop`` run on the event loop."""

    def __init__(self, live: Live, storage: Storage, workers: Workers) -> None:
        """Take the storage and the ports. Raises ``CannotServe`` or ``server.queue.facts.errors.CannotOpen``."""
        settings = live.current.settings
        # The storage first: it may have to be waited for, and who connects meanwhile shall not wait along.
        self._database = storage.open_database()
        blobs = storage.open_blobs(self._database.clock)
        self._public_sockets = _bind(settings.port, settings.host, "server.port")
        self._internal_sockets = _bind(settings.internal_port, settings.host, "server.internalPort")
        self.settings = settings
        self._disk = ThreadPoolExecutor(DISK_THREADS if isinstance(blobs, DirectoryBlobs) else STORE_THREADS, "disk")
        self._cluster = ThreadPoolExecutor(CLUSTER_THREADS, "cluster")
        queue = Queue(self._database)
        self._wakeups = Wakeups()
        depths = Recent(queue.depths, RECENT_SECONDS)
        self.services = Services(
            live=live,
            queue=queue,
            blobs=blobs,
            fresh=FreshBlobs(),
            engine=workers.engine,
            credentials=workers.credentials,
            wakeups=self._wakeups,
            disk=self._disk,
            cluster=self._cluster,
            depths=depths,
            gate=Gate(depths),
            uploads=Budget(UPLOAD_BYTES),
            views=Recent(queue.views, RECENT_SECONDS),
            metrics=Metrics(version("tierserve"), sorted(FINAL)),
            clock=self._database.clock,
        )
        url = workers.server_url or f"http://{_reachable(settings.host)}:{_port(self._internal_sockets)}"
        self._leader = Leader(live, queue, blobs, workers.engine, url, self._database.clock)

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://{_reachable(self.settings.host)}:{_port(self._public_sockets)}"

    def start(self) -> None:
        """Serve, and lead when no other server does."""
        loop = asyncio.get_running_loop()
        self._public = _listen(_public_application(self.services), self._public_sockets, UNBOUNDED)
        self._internal = _listen(_internal_application(self.services), self._internal_sockets, INTERNAL_BODY_BYTES)

        def hear(news: Sequence[News]) -> None:
            loop.call_soon_threadsafe(self._wakeups.hear, news)
            if any(isinstance(one, Available | Anything) for one in news):
                self._leader.nudge()

        def count(news: Sequence[News]) -> None:
            for one in news:
                if isinstance(one, Moved) and one.status in FINAL:
                    self.services.metrics.ended(one.tier, one.status)

        self._database.listen(hear)
        self._database.listen(count, own=True)
        self._leader.start()

    async def stop(self) -> None:
        """Answer who waits, let workers finish and end them, close everything. Nothing accepted is lost."""
        loop = asyncio.get_running_loop()
        self._wakeups.drain()
        self._public.stop()
        self._leader.stop()
        await loop.run_in_executor(None, self._leader.join)
        await self._answered(loop.time() + LAST_ANSWERS_SECONDS)
        for server in (self._public, self._internal):
            server.stop()
            await server.close_all_connections()
        await loop.run_in_executor(None, self._database.close)
        self._disk.shutdown()
        self._cluster.shutdown(wait=False)
        self.services.blobs.close()

    async def _answered(self, end: float) -> None:
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


def _public_application(services: Services) -> Application:
    return _application(
        services,
        [
            ("/img-classification/{tier}", predictions.ClassifyHandler),
            ("/v1/predictions/{id}", predictions.PredictionHandler),
            ("/v1/tiers", tiers.TiersHandler),
            ("/config", tiers.ConfigHandler),
            ("/healthz", health.HealthHandler),
            ("/readyz", health.ReadyHandler),
        ],
    )


def _internal_application(services: Services) -> Application:
    return _application(
        services,
        [
            ("/work/lease", worker.LeaseHandler),
            ("/work/complete", worker.CompleteHandler),
            ("/work/extend", worker.ExtendHandler),
            ("/work/release", worker.ReleaseHandler),
            ("/metrics", metrics.MetricsHandler),
        ],
    )


def _application(services: Services, routes: list[tuple[str, type[BaseHandler]]]) -> Application:
    given = {"services": services}
    return Application(
        [(re.sub(r"{\w+}", "([^/]+)", route), handler, {**given, "route": route}) for route, handler in routes],
        default_handler_class=NotFoundHandler,
        default_handler_args=given,
        log_function=_answered,
    )


def _answered(handler: BaseHandler) -> None:
    handler.count()
    if handler.get_status() >= 500:
        request = handler.request
        log.warning("%s %s answered %d", request.method, request.path, handler.get_status())


def _listen(application: Application, sockets: list[socket.socket], most_bytes: int) -> HTTPServer:
    server = HTTPServer(
        application,
        max_body_size=most_bytes,
        body_timeout=BODY_SECONDS,
        idle_connection_timeout=IDLE_SECONDS,
    )
    server.add_sockets(sockets)
    return server


def _bind(port: int, host: str, key: str) -> list[socket.socket]:
    try:
        return bind_sockets(port, host, reuse_port=False)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            other = port + 10
            detail = f"port {port} of {host} is in use. Choose another: make run PORT={other}, or --set {key}={other}"
            raise CannotServe(detail) from error
        raise CannotServe(f"cannot listen on {host}, port {port}: {error.strerror}") from error


def _port(sockets: list[socket.socket]) -> int:
    return int(sockets[0].getsockname()[1])


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104 (compared, not bound)
