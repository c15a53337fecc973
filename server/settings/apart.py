"""Judges settings in a process of its own, which ends within a time limit whatever the texts are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from server.settings.sources import ConfigError, Sources, dumped
from server.settings.texts import Finding
from server.shipped import ROOT

if TYPE_CHECKING:
    from server.settings.blueprints import InForce

WALL_SECONDS = 60.0


class NotJudged(ConfigError):
    """The process was ended or could not start, so nothing is known of the settings: to be tried again."""


def judge(sources: Sources, only: Sequence[str] = ()) -> InForce:
    """Return what ``sources`` put into force; a tier may be broken in it. Raises ``ConfigError``.

    With ``only``, it has the Jobs of these tiers alone.
    """
    command = [sys.executable, "-m", "server.settings.judging", *only]
    # The rest of our environment may contain passwords.
    environment = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, env=environment)
    except OSError as error:
        raise NotJudged([_finding(f"could not be checked: {error.strerror}")]) from error
    with process:
        try:
            from server.settings.judging import VALUES_SECONDS, loaded  # while that process imports it, too

            answer, complaints = process.communicate(dumped(sources), WALL_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise NotJudged([_finding(f"could not be checked within {WALL_SECONDS:g} s")]) from error
        finally:
            process.kill()
    if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        message = f"to check them took more than {VALUES_SECONDS} s of processor time, or too much memory"
        raise ConfigError([_finding(message)])
    if process.returncode:
        last = (complaints.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise ConfigError([_finding(f"could not be checked: {last[:1000]}")])
    return loaded(json.loads(answer))


def _finding(message: str) -> Finding:
    return Finding("the values", 0, "", "limit", message)
