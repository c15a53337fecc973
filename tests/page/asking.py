"""The page Ask, as somebody uses it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from playwright.sync_api import Locator, Response, expect

from tests.page.browser import Tab, Tabs
from tests.page.world import World
from tests.running import ROOT, Service
from tests.waiting import eventually

PICTURES = ROOT / "model" / "pictures"
CAT = PICTURES / "cat.jpg"
START_SECONDS = 30.0


class Ask:
    """A tab with the page, on which somebody has chosen a tier."""

    def __init__(self, tab: Tab, tier: str) -> None:
        self.tab, self.page = tab, tab.page
        self.accepted: list[str] = []  # ids of predictions that were answered with 202
        self.page.on("response", self._response)
        # From now on, not only from a test's first wish on: Chromium gives a dialog that comes sooner to nobody.
        self.page.on("filechooser", lambda _: None)
        self.pick(tier)

    def pick(self, tier: str) -> None:
        """Choose a tier."""
        self.page.locator(f"#tiers input[value='{tier}']").check()

    def choose(self, *files: Path, button: str = "Choose pictures") -> None:
        """Choose files, or a folder, in the dialog of the browser."""
        with self.page.expect_file_chooser() as chosen:
            self.page.get_by_role("button", name=button).click()
        chosen.value.set_files(list(files))

    def drop(self, *paths: Path) -> None:
        """Drag files or folders from another program onto the page, and let them go."""
        session = self.tab.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 300, "data": data})
        session.detach()

    def card(self, name: str) -> Locator:
        """The card of a picture."""
        return self.cards.filter(has=self.page.get_by_role("heading", name=name, exact=True))

    @property
    def cards(self) -> Locator:
        """All cards, the newest first."""
        return self.page.locator("#cards > li")

    def shows(self, name: str, *texts: str | re.Pattern[str]) -> None:
        """Wait until the card of a picture has texts."""
        for text in texts:
            expect(self.card(name)).to_contain_text(text)

    def reaches(self, name: str, state: str) -> None:
        """Wait until a picture is in a state of ``sending.js``."""
        expect(self.card(name)).to_have_attribute("data-state", state)

    def press(self, name: str, button: str) -> None:
        """Press a button on the card of a picture."""
        self.card(name).get_by_role("button", name=button).click()

    def _response(self, response: Response) -> None:
        if response.status == 202:
            self.accepted.append(response.headers["location"].rsplit("/", 1)[1])

    def enter_key(self, key: str) -> None:
        """Type a key into the dialog, which is open."""
        self.page.get_by_label("Key", exact=True).fill(key)
        self.page.get_by_role("button", name="Use this key").click()


def ask(tabs: Tabs, url: str, tier: str = "free") -> Ask:
    """Open the page and choose a tier; the clipboard is open to it."""
    return Ask(tabs.open(url, permissions=("clipboard-read", "clipboard-write")), tier)


def copies(folder: Path, source: Path, count: int) -> list[Path]:
    """Copies of a picture under other names."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:03}{source.suffix}" for number in range(count)]
    for path in paths:
        path.write_bytes(source.read_bytes())
    return paths


@contextmanager
def tidied(page: Ask, site: World) -> Iterator[None]:
    """Cancel at the end what the page has sent and waits for."""
    try:
        yield
    finally:
        page.page.goto("about:blank")
        site.empty(page.accepted)


@contextmanager
def held(server: Service, tier: str) -> Iterator[psutil.Process]:
    """The first worker of a tier, stopped before it has asked for work or while it works, and let go at the end."""
    (worker, *_) = eventually(lambda: workers(server, tier), START_SECONDS, f"a worker of {tier} runs")
    worker.suspend()
    try:
        yield worker
    finally:
        worker.resume()


def workers(server: Service, tier: str) -> list[psutil.Process]:
    """The processes of a tier's workers."""
    return [one for one in server.workers() if f"-{tier}-" in one.environ().get("TMPDIR", "")]
