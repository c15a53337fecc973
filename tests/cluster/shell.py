"""Commands with a timeout, a lock for builders, and the one error that this package raises."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
PROXIES = {"http_proxy", "https_proxy", "all_proxy"}

Say = Callable[[str], None]
T = TypeVar("T")


class ClusterError(Exception):
    """Something that a person has to mend. The text says how."""


def run(*argv: str | Path, stdin: str | None = None, timeout: float = 60, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it prints. Raises ``ClusterError`` with its complaint."""
    words = [str(word) for word in argv]
    env = {**(env or os.environ), "PATH": search_path()}
    try:
        done = subprocess.run(
            words, input=stdin or "", capture_output=True, text=True, timeout=timeout, check=False, env=env
        )
    except FileNotFoundError:
        raise ClusterError(
            f"{words[0]} is not installed: .venv/bin/python -m tests.cluster packages --install"
        ) from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"not within {timeout:g} s: {' '.join(words)}") from None
    if done.returncode:
        raise ClusterError(f"{' '.join(words)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def until(look: Callable[[], T], seconds: float, what: str, enough: Callable[[T], object] = bool) -> T:
    """Like ``eventually``, but a ``ClusterError`` means look again. Raises ``ClusterError`` with what was seen last."""
    try:
        return eventually(look, seconds, what, enough, (ClusterError,))
    except AssertionError as error:
        raise ClusterError(str(error)) from None


def direct() -> dict[str, str]:
    """The environment without an HTTP proxy, which could not reach the cluster's addresses."""
    kept = {name: value for name, value in os.environ.items() if name.lower() not in PROXIES}
    return {**kept, "PATH": search_path()}


def search_path() -> str:
    """The PATH for commands. It adds two folders that a user who became root may lack."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """A signal handler that lets SIGTERM clean up as Ctrl-C does."""
    raise KeyboardInterrupt


@contextmanager
def locked(path: Path, say: Say) -> Iterator[None]:
    """Hold a lock, so that one builder works at a time and the others find what it made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another build in {path.parent}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
