"""Judges settings in a process of its own, which ends within a time limit whatever the texts are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from server.settings.blueprints import InForce
from server.settings.documents import Finding
from server.settings.judging import VALUES_SECONDS, dumped, loaded
from server.settings.sources import ConfigError, Sources
from server.shipped import ROOT

WALL_SECONDS = 60.0


class NotJudged(ConfigError):
    """The process was ended or could not start, so nothing is known of the settings: to be tried again."""


def judge(sources: Sources) -> InForce:
    """Return what ``sources`` put into force; a tier may be broken in it. Raises ``ConfigError``."""
    command = [sys.executable, "-m", "server.settings.judging"]
    # The rest of our environment may contain passwords.
    environment = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    try:
        done = subprocess.run(
            command,
            input=dumped(sources),
            capture_output=True,
            text=True,
            timeout=WALL_SECONDS,
            cwd=ROOT,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise NotJudged([_finding(f"could not be checked within {WALL_SECONDS:g} s")]) from error
    except OSError as error:
        raise NotJudged([_finding(f"could not be checked: {error.strerror}")]) from error
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        message = f"to check them took more than {VALUES_SECONDS} s of processor time, or too much memory"
        raise ConfigError([_finding(message)])
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ConfigError([_finding(f"could not be checked: {last[:1000]}")])
    return loaded(json.loads(done.stdout))


def _finding(message: str) -> Finding:
    return Finding("the values", 0, "", "limit", message)
