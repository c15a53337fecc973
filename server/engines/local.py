"""Jobs as subprocesses of this machine, from the manifests that Kubernetes would get.

The container's command, arguments and environment, the Job's deadline and grace and the tier's quota are obeyed; image,
security context and most volumes have no meaning here. ``base`` takes the place of the image's own environment, and a
folder of its own (``TMPDIR``), which goes when the Job ends, the place of its ``/tmp``.
"""

from __future__ import annotations

import logging
import os
import platform
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.engines.base import Engine, Job, NoRoom, Phase, Pod, Room, Stage, fit, needs
from server.files import FOLDER_MODE, open_file, open_folder
from server.settings.manifests import BadManifest, Manifest
from server.settings.quantity import parse_quantity
from server.settings.records import Tier

log = logging.getLogger(__name__)

LOGS_KEPT = 50
POLL_SECONDS = 0.02


@dataclass(slots=True)
class _Process:
    tier: str
    namespace: str
    needs: Mapping[str, str]
    popen: subprocess.Popen[bytes]
    output: Path
    tmp: Path
    grace: float
    deadline: float
    ttl: float
    ended_at: float | None = None
    kill_at: float | None = None
    forgotten: bool = False
    reason: str = ""


class LocalEngine(Engine):
    """``token(tier, job)`` mints what a Job shows the server; ``clock`` is monotonic, in seconds.

    The folder ``tmp`` has that of each Job. It belongs to one engine at a time, which empties it.
    """

    def __init__(
        self,
        base: Mapping[str, str],
        token: Callable[[str, str], str],
        logs: Path,
        tmp: Path,
        workdir: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ``OSError`` when the folder ``logs`` or ``tmp`` cannot be used."""
        self._base = base
        self._token = token
        self._logs = logs
        self._tmp = tmp
        self._workdir = workdir
        self._clock = clock
        self._lock = threading.Lock()
        self._processes: dict[str, _Process] = {}
        # The kernel takes the end of the thread that started a process for the end of its parent (``prctl(2)``), so
        # this one lives until ``close`` has ended them all.
        self._parent = ThreadPoolExecutor(1, "parent")
        for folder in (logs, tmp):
            os.close(open_folder(folder))
        for left in tmp.iterdir():  # by the Jobs of a server that was killed
            _remove(left)

    def check(self, manifest: Manifest) -> None:
        """Whether this machine has the container's program."""
        program = _container(manifest)["command"][0]
        if shutil.which(program, path=self._base.get("PATH")) is None:
            raise BadManifest(f"cannot start {program}: this machine has no such program")

    def room(self, tier: Tier, manifest: Manifest) -> Room:
        """What the tier's quota leaves beside the processes that still run."""
        with self._lock:
            self._poll()
            mine = [one for one in self._processes.values() if one.tier == tier.name]
        running = [one.needs for one in mine if one.popen.returncode is None]
        hard = {key: float(parse_quantity(value)) for key, value in tier.quota.items()}
        used = {key: float(sum(parse_quantity(one.get(key, "0")) for one in running)) for key in hard}
        return fit(hard, used, needs(manifest))

    def jobs(self, tier: Tier) -> Sequence[Job]:
        """Every Job of the tier not yet stopped and forgotten; one that has ended is known for its time to live."""
        with self._lock:
            self._poll()
            mine = [(name, one) for name, one in self._processes.items() if one.tier == tier.name]
            return [_job(name, process) for name, process in mine if not process.forgotten]

    def start(self, tier: Tier, manifest: Manifest) -> None:
        """Start the manifest's first container as a process group, which a Ctrl-C in the terminal does not reach."""
        name = manifest["metadata"]["name"]
        with self._lock:
            if name in self._processes:
                return
        room = self.room(tier, manifest)  # outside the lock, as only one thread starts Jobs
        if room.jobs < 1:
            raise NoRoom(room.reason)
        container = _container(manifest)
        command = [*container["command"], *container.get("args", [])]
        tmp = self._tmp / name
        environment = {**self._base, "TIERSERVE_TOKEN": self._token(tier.name, name), "TMPDIR": str(tmp)}
        environment |= {pair["name"]: pair["value"] for pair in container.get("env", [])}
        output = self._logs / f"{name}.log"
        try:
            tmp.mkdir(FOLDER_MODE, exist_ok=True)
            popen = self._parent.submit(self._spawn, command, environment, output).result()
        except OSError as error:
            _remove(tmp)
            raise BadManifest(f"cannot start {command[0]}: {error.strerror}") from error
        process = _Process(
            tier=tier.name,
            namespace=manifest["metadata"]["namespace"],
            needs=needs(manifest),
            popen=popen,
            output=output,
            tmp=tmp,
            grace=manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
            deadline=self._clock() + manifest["spec"]["activeDeadlineSeconds"],
            ttl=manifest["spec"]["ttlSecondsAfterFinished"],
        )
        with self._lock:
            self._processes[name] = process
        self._prune_logs()

    def stop(self, name: str, *, at_once: bool = False) -> None:
        """Ask the Job to end and forget it; if it outlives its grace, a later call or ``close`` kills it."""
        with self._lock:
            process = self._processes.get(name)
            if process is not None:
                process.forgotten = True
                self._terminate(process)
                if at_once and process.kill_at is not None:
                    process.kill_at = self._clock()
                self._poll()

    def pods(self, tiers: Sequence[Tier]) -> Sequence[Pod]:
        """One pod a process, on a node named after this machine."""
        wanted = {tier.name for tier in tiers}
        phases = {Phase.RUNNING: "Running", Phase.SUCCEEDED: "Succeeded", Phase.FAILED: "Failed"}
        with self._lock:
            self._poll()
            return [
                Pod(
                    node=platform.node(),
                    ip="127.0.0.1",
                    namespace=process.namespace,
                    name=name,
                    status=phases[_job(name, process).phase],
                    job=name,
                    stage=Stage.LOADING if process.popen.returncode is None else None,
                )
                for name, process in self._processes.items()
                if process.tier in wanted
            ]

    def log_command(self, tier: Tier, name: str) -> str:
        """Of a file below the folder in which the server was started; the paths of others are nobody's business."""
        output = (self._logs / f"{name}.log").absolute()
        here = Path.cwd()
        return f"less {shlex.quote(str(output.relative_to(here)))}" if output.is_relative_to(here) else ""

    def close(self) -> None:
        """End every Job, each with its grace, and return when the last process is gone."""
        with self._lock:
            for process in self._processes.values():
                process.forgotten = True
                self._terminate(process)
        while True:
            with self._lock:
                self._poll()
                if not self._processes:
                    break
            time.sleep(POLL_SECONDS)
        self._parent.shutdown()

    def _spawn(self, command: list[str], environment: Mapping[str, str], output: Path) -> subprocess.Popen[bytes]:
        with os.fdopen(open_file(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as sink:
            return subprocess.Popen(
                [*_dies_with_parent(), *command],
                env=environment,
                cwd=self._workdir,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _terminate(self, process: _Process) -> None:
        if process.kill_at is None and process.popen.poll() is None:
            process.popen.send_signal(signal.SIGTERM)
            process.kill_at = self._clock() + process.grace

    def _poll(self) -> None:
        now = self._clock()
        for name, process in list(self._processes.items()):
            if process.popen.poll() is None:
                if process.deadline <= now and process.kill_at is None:
                    process.reason = "it ran into its deadline (activeDeadlineSeconds)"
                    self._terminate(process)
                if process.kill_at is not None and process.kill_at <= now:
                    os.killpg(process.popen.pid, signal.SIGKILL)
                continue
            if process.ended_at is None:
                process.ended_at = now
                _remove(process.tmp)
            if process.forgotten or now - process.ended_at >= process.ttl:
                del self._processes[name]

    def _prune_logs(self) -> None:
        newest_last = sorted(self._logs.glob("*.log"), key=lambda path: path.stat().st_mtime)
        for path in newest_last[:-LOGS_KEPT]:
            path.unlink(missing_ok=True)


def _dies_with_parent() -> list[str]:
    """A prefix that has the kernel kill the process when the server dies, however it dies (Linux)."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def _remove(path: Path) -> None:
    """Delete a file or a folder with what is in it, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _container(manifest: Manifest) -> Mapping[str, Any]:
    container: Mapping[str, Any] = manifest["spec"]["template"]["spec"]["containers"][0]
    return container


def _job(name: str, process: _Process) -> Job:
    code = process.popen.returncode
    if code is None:
        return Job(name=name, tier=process.tier, phase=Phase.RUNNING, reason=process.reason, needs=process.needs)
    if code == 0 and not process.reason:
        return Job(name=name, tier=process.tier, phase=Phase.SUCCEEDED)
    ending = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    said = _last_line(process.output)
    reason = process.reason or f"{ending}{': ' + said if said else ''}"
    return Job(name=name, tier=process.tier, phase=Phase.FAILED, reason=reason)


def _last_line(path: Path) -> str:
    try:
        with os.fdopen(open_file(path, os.O_RDONLY), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 2048))  # as much as Kubernetes reads of a log for its message
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""
