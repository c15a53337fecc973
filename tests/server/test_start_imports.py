"""What each command imports before it does its work. That decides how long it takes to start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from server import shipped
from server.settings.sources import Files, dumped

SERVING = {"kubernetes", "prometheus_client", "sqlalchemy", "tornado", "uvloop"}
JUDGING = {"jinja2", "jsonschema", "attr"}
CLIENT = {"aiohttp", "anyio", "rich", "yarl"}
RUNNING = {"model", "numpy", "onnxruntime", "torch"}
EXTRAS = {"kubernetes", "obstore", "opentelemetry", "psycopg", "sqlalchemy.dialects.postgresql", "torch"}


def imported(*words: str, told: str = "") -> set[str]:
    """The modules that ``python WORDS`` imports, and the packages that they are in."""
    command = [sys.executable, "-X", "importtime", *words]
    done = subprocess.run(command, cwd=shipped.ROOT, input=told, capture_output=True, text=True, timeout=60, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    names = {line.rpartition("|")[2].strip() for line in lines}
    assert "json" in names or "click" in names, done.stderr
    return names | {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    ("words", "never"),
    [
        (["render", "free"], SERVING | JUDGING | CLIENT | RUNNING),
        (["check"], SERVING | JUDGING | CLIENT | RUNNING),
        (["classify", "--help"], SERVING | JUDGING | CLIENT | RUNNING | {"yaml", "server.settings", "server.access"}),
        (["--help"], SERVING | JUDGING | CLIENT | RUNNING | {"yaml", "server.settings", "server.access"}),
        (["model", "list", "--help"], SERVING | JUDGING | CLIENT | RUNNING | {"yaml", "server.settings"}),
    ],
)
def test_a_command_imports_what_it_needs(words: Sequence[str], never: set[str]) -> None:
    assert imported("-m", "server", *words) & never == set()


def test_right_settings_are_judged_without_what_explains_wrong_ones() -> None:
    found = imported("-m", "server.settings.judging", told=dumped(Files().read()))
    assert found & (SERVING | CLIENT | RUNNING | {"jsonschema", "attr"}) == set()
    assert "jinja2" in found


def test_the_server_imports_no_extra_that_it_was_not_told_to_use() -> None:
    found = imported("-c", "import server.app")
    assert found & (EXTRAS | JUDGING | CLIENT | RUNNING) == set()
    assert "sqlalchemy.dialects.sqlite" in found
