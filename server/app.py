"""The composition root: the only place that names concrete engines, pools and listeners."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from server.access import WorkerTokens
from server.blobs import DirectoryBlobs
from server.config import ROOT, Settings
from server.dispatcher import Dispatcher
from server.engines.base import Engine
from server.engines.local import LocalEngine
from server.http import health, predictions, tiers, worker
from server.http.base import Budget, Gate, NotFoundHandler, Recent, Services
from server.http.wakeups import Wakeups
from server.queue.database import Database
from server.queue.queue import Queue
from server.render import Renderer

log = logging.getLogger(__name__)

DISK_THREADS, CLUSTER_THREADS = 4, 2
RECENT_SECONDS = 0.1
BODY_SECONDS, IDLE_SECONDS = 60.0, 75.0
UNBOUNDED = 1 << 40  # our own handlers bound bodies, with an answer instead of a closed connection
UPLOAD_BYTES = 256 * 1024 * 1024
INTERNAL_BODY_BYTES = 16 * 1024 * 1024


class CannotServe(Exception):
    """The server cannot start: the text says why and what to do."""


class Server:
    """A server on one data directory. ``start`` and ``stop`` run on the event loop."""

    def __init__(self, settings: Settings, state: Path, models: Path) -> None:
        """Take the ports and the data directory. Raises ``CannotServe`` or ``server.queue.errors.CannotOpen``."""
        _check_models(settings, models)
        self._public_sockets = _bind(settings.port, settings.host, "server.port")
        self._internal_sockets = _bind(settings.internal_port, settings.host, "server.internalPort")
        self._database = Database.open(state / "data")
        self.settings = settings
        self._disk = ThreadPoolExecutor(DISK_THREADS, "disk")
        self._cluster = ThreadPoolExecutor(CLUSTER_THREADS, "cluster")
        queue = Queue(self._database)
        blobs = DirectoryBlobs(state / "data" / "blobs")
        tokens = WorkerTokens(secrets.token_bytes(32))
        engine = _local_engine(settings, tokens, state, models)
        self._wakeups = Wakeups()
        depths = Recent(queue.depths, RECENT_SECONDS)
        self.services = Services(
            settings=settings,
            queue=queue,
            blobs=blobs,
            engine=engine,
            tokens=tokens,
            wakeups=self._wakeups,
            disk=self._disk,
            cluster=self._cluster,
            depths=depths,
            gate=Gate(depths),
            uploads=Budget(UPLOAD_BYTES),
            reports=Recent(queue.reports, RECENT_SECONDS),
            clock=self._database.clock,
        )
        url = f"http://{_reachable(settings.host)}:{_port(self._internal_sockets)}"
        self._dispatcher = Dispatcher(settings, queue, blobs, engine, Renderer(), url, self._database.clock)
        self._thread = threading.Thread(target=self._dispatcher.run, name="dispatcher")

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://{_reachable(self.settings.host)}:{_port(self._public_sockets)}"

    def start(self) -> None:
        """Serve and dispatch."""
        loop = asyncio.get_running_loop()
        self._public = _listen(_public_application(self.services), self._public_sockets, UNBOUNDED)
        self._internal = _listen(_internal_application(self.services), self._internal_sockets, INTERNAL_BODY_BYTES)

        def committed(news: Mapping[str, Any]) -> None:
            loop.call_soon_threadsafe(self._wakeups.fire, news)
            if any(topic.startswith("tier:") for topic in news):
                self._dispatcher.nudge()

        self._database.listen(committed)
        self._thread.start()

    async def stop(self) -> None:
        """Answer who waits, let workers finish and end them, close everything. Nothing accepted is lost."""
        loop = asyncio.get_running_loop()
        self._public.stop()
        self._wakeups.drain()
        self._dispatcher.stop()
        await loop.run_in_executor(None, self._thread.join)
        for server in (self._public, self._internal):
            server.stop()
            await server.close_all_connections()
        await loop.run_in_executor(None, self._database.close)
        self._disk.shutdown()
        self._cluster.shutdown(wait=False)
        self.services.blobs.close()


async def serve(settings: Settings, state: Path, models: Path, ready: Callable[[Server], None]) -> None:
    """Run a server until SIGTERM or SIGINT; ``ready`` is called once it takes requests."""
    server = Server(settings, state, models)
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    server.start()
    ready(server)
    await told.wait()
    log.info("stopping: workers finish what they hold")
    await server.stop()


def _public_application(services: Services) -> Application:
    return _application(
        services,
        [
            (r"/img-classification/([^/]+)", predictions.ClassifyHandler),
            (r"/v1/predictions/([^/]+)", predictions.PredictionHandler),
            (r"/v1/tiers", tiers.TiersHandler),
            (r"/config", tiers.ConfigHandler),
            (r"/healthz", health.HealthHandler),
            (r"/readyz", health.ReadyHandler),
        ],
    )


def _internal_application(services: Services) -> Application:
    return _application(
        services,
        [
            (r"/work/lease", worker.LeaseHandler),
            (r"/work/complete", worker.CompleteHandler),
            (r"/work/extend", worker.ExtendHandler),
            (r"/work/release", worker.ReleaseHandler),
        ],
    )


def _application(services: Services, routes: list[tuple[str, type[RequestHandler]]]) -> Application:
    given = {"services": services}
    return Application(
        [(path, handler, given) for path, handler in routes],
        default_handler_class=NotFoundHandler,
        default_handler_args=given,
        log_function=_log_request,
    )


def _log_request(handler: RequestHandler) -> None:
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


def _local_engine(settings: Settings, tokens: WorkerTokens, state: Path, models: Path) -> Engine:
    programs = str(Path(sys.executable).parent)
    base: dict[str, Any] = {
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(Path.home()),
        "PYTHONUNBUFFERED": "1",
        "TIERSERVE_MODELS": str(models.resolve()),
    }
    quotas = {tier.name: tier.quota for tier in settings.tiers.values()}
    return LocalEngine(quotas, base, tokens.mint, state / "logs", ROOT)


def _check_models(settings: Settings, models: Path) -> None:
    names = {tier.model.name for tier in settings.tiers.values()}
    missing = sorted(name for name in names if not (models / name / "model.json").is_file())
    if missing:
        raise CannotServe(
            f"{models} has no {', '.join(missing)}. Build what is missing: "
            f"python -m model build --output {models} {' '.join(missing)}"
        )
