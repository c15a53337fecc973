"""A machine of the cluster: namespaces for network, mounts and processes, and a first process that holds them.

When the first process ends, everything in the machine ends: daemons, containers and mounts. The kernel knows which
processes are in the machine, so nothing has to be written down, and no process of anybody else can be killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.cluster.network import NETNS
from tests.cluster.shell import ClusterError, direct, run

END_SECONDS = 60.0
PROC = Path("/proc")
BIND = """[ -e "$2" ] || {  # a link may lead into an empty directory
  mkdir -p "$(dirname "$(readlink -m "$2")")" && if [ -d "$1" ]; then mkdir "$2"; else touch "$2"; fi
} && mount --bind "$1" "$2"
"""
NULL = subprocess.DEVNULL
FIRST = "while sleep 86400; do :; done"  # a shell, because it reaps orphans


class Machine:
    """One machine, on a network namespace."""

    def __init__(self, namespace: str, logs: Path) -> None:
        self.namespace, self.logs = namespace, logs

    def start(self, private: tuple[str, ...], binds: Mapping[str, Path]) -> None:
        """Start its first process. It sees empty directories and files of its own in place of some of the host's."""
        enter = ["nsenter", f"--net={NETNS / self.namespace}", "unshare", "--mount", "--pid", "setsid", "--fork"]
        argv = [*enter, "sh", "-c", FIRST]
        subprocess.run(argv, stdin=NULL, stdout=NULL, stderr=NULL, cwd="/", timeout=10, check=True)
        self.run("mount", "-t", "proc", "proc", "/proc")
        for directory in private:
            self.run("mount", "-t", "tmpfs", "tmpfs", directory)
        for target, source in binds.items():
            self.run("sh", "-c", BIND, "bind", source, target)

    def run(self, *argv: str | Path, stdin: str | None = None, timeout: float = 60) -> str:
        """Run a command in the machine and return what it prints."""
        return run(*self._enter(), *argv, stdin=stdin, timeout=timeout, env=direct())

    def spawn(self, name: str, *argv: str | Path) -> None:
        """Start a daemon in the machine, with a log of its own."""
        words = [str(word) for word in (*self._enter(), "setsid", "--fork", *argv)]
        with (self.logs / f"{name}.log").open("ab") as log:
            subprocess.run(words, stdin=NULL, stdout=log, stderr=log, timeout=10, check=True, env=direct())

    def running(self) -> bool:
        """Whether its first process runs."""
        return self._first() is not None

    def processes(self, program: str | None = None) -> list[int]:
        """The ids on the host of the machine's processes, all or those of one program, without those of pods."""
        found = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit() and self._holds(entry)]
        return [pid for pid in found if program is None or _program(pid) == program]

    def kill(self, program: str | None = None) -> None:
        """Kill one program of the machine, or everything with its pods. Raises ``ClusterError`` if something stays."""
        end = time.monotonic() + END_SECONDS
        while pids := self.processes(program):  # again and again: a process may have forked while others were killed
            if time.monotonic() > end:
                raise ClusterError(f"processes {pids} of {self.namespace} do not end")
            for pid in pids:
                self._kill(pid)
            time.sleep(0.02)

    def _kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)  # it stays this process's, even if another one gets the id
            try:
                if self._holds(PROC / str(pid)):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)

    def _holds(self, entry: Path) -> bool:
        with suppress(OSError):
            mine, theirs = (NETNS / self.namespace).stat(), (entry / "ns" / "net").stat()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            return (mine.st_dev, mine.st_ino) == (theirs.st_dev, theirs.st_ino) and state not in ("Z", "X")
        return False

    def _first(self) -> int | None:
        for pid in self.processes():
            with suppress(OSError):
                lines = (PROC / str(pid) / "status").read_text().splitlines()
                ids = next(line for line in lines if line.startswith("NSpid:")).split()[1:]
                if len(ids) == 2 and ids[1] == "1":
                    return pid
        return None

    def _enter(self) -> list[str]:
        first = self._first()
        if first is None:
            raise ClusterError(f"{self.namespace} is not running: see python -m tests.cluster status")
        return ["nsenter", "--target", str(first), "--mount", "--net", "--pid", "--"]


def _program(pid: int) -> str:
    with suppress(OSError):
        return Path((PROC / str(pid) / "cmdline").read_bytes().split(b"\0")[0].decode()).name
    return ""
