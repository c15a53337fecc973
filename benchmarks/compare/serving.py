"""Starts a server, waits until it classifies, and ends every process of it."""

from __future__ import annotations

import http.client
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.compare.peers import Peer, Unavailable
from tests.running import ROOT, Client, Service, free_port

START_SECONDS = 90.0
END_SECONDS = 15.0
WORKERS = ("tiers.premium.quota.cpu=2",)  # the free tier has two workers by default
BOUNDARY = "boundary-of-the-comparison"
KEPT = 32


@dataclass(frozen=True, slots=True)
class Work:
    """What every server has to do: one variant of a model, for a picture that has this label."""

    tier: str
    models: Path
    model: str
    variant: str
    picture: bytes
    label: str


@dataclass(slots=True)
class Server:
    """A server that classifies. ``apart`` says that its lanes are processes without HTTP."""

    port: int
    path: str
    body: bytes
    kind: str
    apart: bool
    process: psutil.Process
    service: Service | None = field(default=None)

    def processes(self) -> list[psutil.Process]:
        """All its processes."""
        return _family(self.process)


@contextmanager
def tierserve(work: Work, folder: Path) -> Iterator[Server]:
    """Tierserve as ``make run`` starts it, with two workers a tier. Raises ``Unavailable`` if it does not start."""
    service = Service(folder, work.models, WORKERS)
    _start(service)
    try:
        assert service.process is not None
        path = f"/img-classification/{work.tier}"
        server = Server(service.port, path, work.picture, "image/jpeg", True, service.process, service)
        _ready(server, work, folder / "server.log")
        yield server
    finally:
        service.stop()


@contextmanager
def another(peer: Peer, python: Path, work: Work, folder: Path) -> Iterator[Server]:
    """A server of another project. Raises ``Unavailable`` if it does not start."""
    folder.mkdir(parents=True)
    port, log = free_port(), folder / "server.log"
    body, kind = form(work.picture) if peer.form else (work.picture, "image/jpeg")
    with log.open("wb") as file:
        process = psutil.Popen(
            [str(python), *(word.format(port=port) for word in peer.words)],
            cwd=folder,
            env={**os.environ, **_environment(peer, work, folder)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        server = Server(port, peer.path, body, kind, peer.apart, process)
        _ready(server, work, log)
        yield server
    finally:
        _end(process)


def form(picture: bytes) -> tuple[bytes, str]:
    """The picture as the only file of a form, and the form's Content-Type (RFC 7578)."""
    head = 'Content-Disposition: form-data; name="image"; filename="picture.jpg"\r\nContent-Type: image/jpeg'
    body = f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()
    return body, f"multipart/form-data; boundary={BOUNDARY}"


def kept(server: Server) -> int | None:
    """How many of ``KEPT`` answers a server still has after a kill, or None if it keeps none by design.

    Raises ``Unavailable`` if it does not start again.
    """
    service = server.service
    if service is None:
        return None
    answers = [service.ask("POST", server.path, server.body, {"Content-Type": server.kind}) for _ in range(KEPT)]
    service.kill()
    _start(service)
    there = [service.get(answer.json["urls"]["get"]) for answer in answers if answer.status == 200]
    return sum(1 for answer in there if answer.status == 200 and answer.json["status"] == "succeeded")


def _start(service: Service) -> None:
    try:
        service.start()
    except RuntimeError as error:
        raise Unavailable(f"did not start: {error}") from error


def _environment(peer: Peer, work: Work, folder: Path) -> dict[str, str]:
    return {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "COMPARE_MODEL": str((work.models / work.model).resolve()),
        "COMPARE_VARIANT": work.variant,
        "COMPARE_LANES": str(peer.lanes),
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "TMPDIR": str(folder),
    }


def _ready(server: Server, work: Work, log: Path) -> None:
    """Ask until the picture has its label, or raise ``Unavailable``."""
    client, seen = Client(server.port), "no answer"
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.process.is_running() and server.process.status() != psutil.STATUS_ZOMBIE:
        try:
            answer = client.ask("POST", server.path, server.body, {"Content-Type": server.kind})
            if answer.status == 200 and work.label.encode() in answer.body:
                return
            seen = f"status {answer.status}, {answer.body[:200]!r}"
        except (OSError, http.client.HTTPException) as error:
            seen = repr(error)
        time.sleep(0.1)
    said = log.read_text("utf-8", "replace").strip().splitlines() or ["nothing"]
    raise Unavailable(f"did not classify: {seen}; the last line that it printed: {said[-1][:200]}")


def _family(process: psutil.Process) -> list[psutil.Process]:
    """The process, its descendants, and whatever else runs in its session, such as orphans."""
    family = {process}
    with suppress(psutil.NoSuchProcess):
        family |= set(process.children(recursive=True))
    for pid in psutil.pids():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(pid) == process.pid:
                family.add(psutil.Process(pid))
    return list(family)


def _end(process: psutil.Popen) -> None:
    family = _family(process)
    with suppress(psutil.NoSuchProcess):
        process.terminate()
    psutil.wait_procs(family, timeout=END_SECONDS)
    alive = [one for one in {*family, *_family(process)} if one.is_running()]
    for one in alive:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(alive, timeout=END_SECONDS)
