"""The server goes away and comes back: both pages say so, go on by themselves, and lose nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.page.asking import CAT, PICTURES, ask
from tests.page.browser import Tabs
from tests.page.checker import Checker
from tests.page.judging import judge
from tests.running import Service, service

AWAY = r"net::ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|CONNECTION_RESET|EMPTY_RESPONSE)|status of 50[23]"


@pytest.fixture
def values(tmp_path: Path) -> Path:
    path = tmp_path / "values.yaml"
    write(path, pods=0)
    return path


def write(path: Path, pods: int) -> None:
    path.write_text(
        json.dumps({"tiers": {"free": {"quota": {"pods": str(pods)}}, "premium": {"quota": {"pods": "0"}}}})
    )


@pytest.fixture
def server(models: Path, tmp_path: Path, values: Path) -> Iterator[Service]:
    with service(models, tmp_path / "state", values=values) as found:
        yield found


def test_what_waits_is_followed_to_its_end_after_the_server_was_killed(
    server: Service, values: Path, tabs: Tabs, checker: Checker, screenshots: Path
) -> None:
    page = ask(tabs, f"http://127.0.0.1:{server.port}/")
    page.tab.allow(AWAY)
    banner = page.page.get_by_role("alert")
    expect(banner).to_be_hidden()
    page.choose(CAT)
    page.shows("cat.jpg", "1st in the queue")
    server.kill()
    expect(banner).to_contain_text("cannot be reached")
    page.choose(PICTURES / "rocket.jpg")  # it waits in the page
    page.reaches("rocket.jpg", "here")
    judge(page.tab, checker, screenshots, "ask-server-gone")
    write(values, pods=1)
    server.start()
    expect(banner).to_be_hidden()
    for name in ("cat.jpg", "rocket.jpg"):
        page.reaches(name, "done")
    judge(page.tab, checker, screenshots, "ask-server-back")


def test_a_server_that_stops_as_it_should_sends_its_followers_away_and_gets_them_back(
    server: Service, values: Path, tabs: Tabs
) -> None:
    page = ask(tabs, f"http://127.0.0.1:{server.port}/")
    page.tab.allow(AWAY)
    page.choose(CAT)
    page.shows("cat.jpg", "1st in the queue")
    assert server.stop() == 0
    expect(page.page.get_by_role("alert")).to_contain_text("cannot be reached")
    write(values, pods=1)
    server.start()
    page.reaches("cat.jpg", "done")


def test_watch_shows_how_it_was_until_the_server_is_back(
    server: Service, tabs: Tabs, checker: Checker, screenshots: Path
) -> None:
    tab = tabs.open(f"http://127.0.0.1:{server.port}/watch")
    tab.allow(AWAY)
    waiting = tab.page.locator("#tier-free").get_by_text("Waiting", exact=True).locator("xpath=following-sibling::dd")
    expect(waiting).to_have_text("0")
    headers = {"Prefer": "respond-async"}
    server.post("free", CAT.read_bytes(), headers)
    expect(waiting).to_have_text("1")
    server.kill()
    expect(tab.page.get_by_role("alert")).to_contain_text("What you see is how it was")
    expect(waiting).to_have_text("1")
    judge(tab, checker, screenshots, "watch-server-gone")
    server.start()
    expect(tab.page.get_by_role("alert")).to_be_hidden()
    server.post("free", CAT.read_bytes(), headers)
    expect(waiting).to_have_text("2")
    expect(tab.page).to_have_title("2 waiting · Watch · tierserve")
