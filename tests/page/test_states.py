"""Every state of the page Ask: looked at in light, in dark and on a phone, and found accessible and valid."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.page.asking import CAT, PICTURES, ask, copies, held
from tests.page.browser import Tab, Tabs
from tests.page.checker import Checker
from tests.page.judging import LOOKS, judge
from tests.page.world import World, world

SLOW = 12_000  # bytes a second
MANY = 230


@pytest.fixture(scope="module")
def site(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(models, tmp_path_factory.mktemp("states")) as found:
        yield found


def empty(site: World, tabs: Tabs, folder: Path) -> Iterator[Tab]:
    yield ask(tabs, site.url).tab


def sending(site: World, tabs: Tabs, folder: Path) -> Iterator[Tab]:
    page = ask(tabs, site.url)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": SLOW}
    page.tab.context.new_cdp_session(page.page).send("Network.emulateNetworkConditions", slow)
    page.choose(*copies(folder / "some", CAT, 5))
    page.reaches("000.jpg", "sending")
    page.shows("004.jpg", "Waiting in this page")
    yield page.tab


def queued(site: World, tabs: Tabs, folder: Path) -> Iterator[Tab]:
    before = site.fill("paused", 3, CAT.read_bytes())
    page = ask(tabs, site.url, "paused")
    page.choose(*sorted(PICTURES.glob("*.jpg"))[:4])
    page.shows("cat.jpg", "in the queue", "quota pods: 0 of 0 used")
    yield page.tab
    site.empty(before + page.accepted)


def starting(site: World, tabs: Tabs, folder: Path) -> Iterator[Tab]:
    page = ask(tabs, site.url, "premium")
    page.choose(CAT)
    with held(site.server, "premium"):
        page.shows("cat.jpg", "A worker starts")
        yield page.tab
    page.reaches("cat.jpg", "done")


def leased(site: World, tabs: Tabs, folder: Path) -> Iterator[Tab]:
    assert site.server.post("members", CAT.read_bytes(), site.key.headers).status == 200
    page = ask(tabs, site.url, "members")
    page.page.get_by_role("button", name="Key", exact=True).click()
    page.enter_key(site.key.key)
    with held(site.server, "members"):
        page.choose(CAT)
        page.reaches("cat.jpg", "leased")
        yield page.tab
    page.reaches("cat.jpg", "done")


def succeeded(site: World, tabs: Tabs, folder: Path) -> Iterator[Tab]:
    page = ask(tabs, site.url)
    page.choose(*sorted(PICTURES.glob("*.jpg"))[:5])
    page.shows("cat.jpg", "tabby", re.compile("predict.* ms"))
    expect(page.page.locator("#cards > li[data-state=done]")).to_have_count(5)
    yield page.tab


def failed(site: World, tabs: Tabs, folder: Path) -> Iterator[Tab]:
    (folder / "cut.jpg").write_bytes(CAT.read_bytes()[:20_000])
    (folder / "notes.jpg").write_text("no picture")
    (folder / "empty.png").write_text("")
    (folder / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(11 << 20))
    page = ask(tabs, site.url)
    page.tab.allow("status of 422")
    page.choose(*(folder / name for name in ("cut.jpg", "notes.jpg", "empty.png", "large.png")))
    for name in ("cut.jpg", "notes.jpg", "empty.png", "large.png"):
        page.reaches(name, "failed")
    yield page.tab


def refused(site: World, tabs: Tabs, folder: Path) -> Iterator[Tab]:
    before = site.fill("full", 1, CAT.read_bytes())
    page = ask(tabs, site.url, "full")
    page.tab.allow("status of 429", "status of 401")
    page.choose(CAT)
    page.shows("cat.jpg", "The queue is full")
    page.pick("members")
    page.choose(PICTURES / "clock.jpg")
    page.shows("clock.jpg", "This tier wants a key")
    yield page.tab
    site.empty(before)


def canceled(site: World, tabs: Tabs, folder: Path) -> Iterator[Tab]:
    page = ask(tabs, site.url, "paused")
    page.choose(CAT)
    page.shows("cat.jpg", "in the queue")
    page.press("cat.jpg", "Cancel cat.jpg")
    page.reaches("cat.jpg", "canceled")
    yield page.tab


def many(site: World, tabs: Tabs, folder: Path) -> Iterator[Tab]:
    page = ask(tabs, site.url, "crowd")
    small = folder / "small.jpg"
    Image.open(CAT).resize((96, 72)).save(small)
    page.choose(*copies(folder / "some", small, MANY))
    # No more are sent than may be outstanding, and no more cards are made than can be read.
    expect(page.page.get_by_text("200 in the queue, 30 waiting in this page")).to_be_visible(timeout=60_000)
    expect(page.page.get_by_text("These are 100 of them")).to_be_visible()
    expect(page.cards).to_have_count(100)
    assert site.tier("crowd")["queued"] == 200
    yield page.tab


def key(site: World, tabs: Tabs, folder: Path) -> Iterator[Tab]:
    page = ask(tabs, site.url)
    page.page.get_by_role("button", name="Key", exact=True).click()
    yield page.tab


def copying(site: World, tabs: Tabs, folder: Path) -> Iterator[Tab]:
    page = ask(tabs, site.url)
    page.choose(CAT)
    page.reaches("cat.jpg", "done")
    page.press("cat.jpg", "Copy")
    yield page.tab


STATES = (empty, sending, queued, starting, leased, succeeded, failed, refused, canceled, many, key, copying)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_a_state_of_ask(
    state: Callable[[World, Tabs, Path], Iterator[Tab]],
    site: World,
    tabs: Tabs,
    checker: Checker,
    screenshots: Path,
    tmp_path: Path,
) -> None:
    steps = state(site, tabs, tmp_path)
    try:
        # A page so long takes seconds for each look.
        judge(next(steps), checker, screenshots, f"ask-{state.__name__}", ["light"] if state is many else LOOKS)
    finally:
        assert list(steps) == []  # it tidies up
