"""Debian's Chromium, driven by Playwright, and tabs that notice what no page of this service may do."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    ViewportSize,
    expect,
    sync_playwright,
)

MISSING = "no Chromium: apt-get install --no-install-recommends chromium"
DESK: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 360, "height": 740}
WAIT_MS = 20_000
LOCAL = ("blob", "data")
MARK = "all that was said before this has come"


def program() -> str | None:
    """The path of Chromium, if it is installed."""
    return shutil.which("chromium")


@contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium without windows, as long as the block lasts.

    While it runs, the thread has a running event loop, so nothing else may start one in this thread.
    """
    path = program()
    assert path is not None, MISSING
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        # Chromium refuses to run as root inside its sandbox.
        found = playwright.chromium.launch(executable_path=path, chromium_sandbox=os.geteuid() != 0)
        try:
            yield found
        finally:
            found.close()


class Tab:
    """A page of a browser of its own, which nobody used before, and the faults that were seen on it.

    A fault is an error or a warning in the console, so also what the Content-Security-Policy forbids; an error that no
    script caught; and a request to another host. An answer that is an error, or none, is a fault unless the test
    allows it.
    """

    def __init__(self, context: BrowserContext, hosts: frozenset[str]) -> None:
        self._hosts = hosts
        self._seen: list[str] = []
        self._allowed: list[re.Pattern[str]] = []
        self.context = context
        self.page: Page = context.new_page()
        self._devtools = context.new_cdp_session(self.page)
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self._seen.append(f"not caught: {error}"))
        self.page.on("crash", lambda _: self._seen.append("the page crashed"))
        context.on("request", self._request)

    def allow(self, *patterns: str) -> None:
        """Take what matches one of the patterns for no fault: what the test itself provokes."""
        self._allowed += [re.compile(pattern) for pattern in patterns]

    def settle(self) -> None:
        """Wait until all that the console was told so far has come here."""
        with self.page.expect_console_message(lambda message: message.text == MARK):
            self.page.evaluate("mark => console.debug(mark)", MARK)

    @property
    def faults(self) -> list[str]:
        """What was seen and not allowed."""
        return [one for one in self._seen if not any(pattern.search(one) for pattern in self._allowed)]

    def look(self, dark: bool = False, phone: bool = False) -> None:
        """Show the page to somebody with another screen, or who likes it dark."""
        self.page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
        self._size(PHONE if phone else DESK, phone)

    def picture(self, path: Path, phone: bool = False) -> None:
        """Write a picture of the whole page, also of what the screen has no room for."""
        # The screen is made larger, because Chromium forgets the finger when it shows more than the screen.
        size = PHONE if phone else DESK
        height: int = self.page.evaluate("document.documentElement.scrollHeight")
        self._size({"width": size["width"], "height": max(size["height"], height)}, phone)
        self.page.screenshot(path=path)
        self._size(size, phone)

    def _size(self, size: ViewportSize, finger: bool) -> None:
        self.page.set_viewport_size(size)
        self._devtools.send("Emulation.setTouchEmulationEnabled", {"enabled": finger})

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._seen.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _request(self, request: Request) -> None:
        found = urlsplit(request.url)
        if found.scheme not in LOCAL and found.netloc not in self._hosts:
            self._seen.append(f"a request to another host: {request.url}")


class Tabs:
    """Opens tabs, and closes them all."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._tabs: list[Tab] = []

    def open(self, url: str, *others: str, permissions: tuple[str, ...] = ()) -> Tab:
        """Open a page, which may ask its own host and those of other URLs."""
        context = self._browser.new_context(
            viewport=DESK,
            locale="en-GB",
            timezone_id="UTC",
            reduced_motion="reduce",
            permissions=list(permissions),
        )
        tab = Tab(context, frozenset(urlsplit(one).netloc for one in (url, *others)))
        self._tabs.append(tab)
        tab.page.goto(url)
        return tab

    def close(self) -> list[str]:
        """Close all tabs, and return their faults."""
        for tab in self._tabs:
            tab.settle()
        faults = [fault for tab in self._tabs for fault in tab.faults]
        for tab in self._tabs:
            tab.context.close()
        self._tabs.clear()
        return faults
