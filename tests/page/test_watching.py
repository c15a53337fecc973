"""Operators watch the tiers: what waits and why, who works, what was done lately; nothing jumps while they read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.page.asking import held, workers
from tests.page.browser import Tab, Tabs
from tests.page.checker import Checker
from tests.page.judging import judge
from tests.page.watching import Watch, watch
from tests.page.world import World, world
from tests.service.pictures import CAT
from tests.waiting import eventually

SECONDS = 30.0
# How far the elements of the panels are from where they were, as they are on the screen.
PLACES = "() => [...document.querySelectorAll('#tiers > article')].map(one => one.getBoundingClientRect().top).join()"


@pytest.fixture(scope="module")
def site(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(models, tmp_path_factory.mktemp("watching")) as found:
        assert found.server.post("free", CAT).status == 200
        assert found.server.post("free", CAT[:20_000]).status == 422
        assert found.server.post("trial", CAT).status == 200
        found.fill("broken", 1, CAT)
        found.fill("full", 1, CAT)
        eventually(lambda: found.tier("broken")["breaker"], SECONDS, "the tier with the broken model rests")
        yield found


def all_tiers(site: World, tabs: Tabs) -> Iterator[Tab]:
    page = watch(tabs, site.url)
    expect(page.tier("broken")).to_contain_text("next try")
    yield page.tab


def opened(site: World, tabs: Tabs) -> Iterator[Tab]:
    page = watch(tabs, site.url)
    page.more("free").click()
    expect(page.table("free", "Latest predictions").get_by_role("row")).to_have_count(3)
    page.more("broken").click()
    expect(page.table("broken", "Latest Jobs").get_by_role("row").nth(3)).to_be_visible()
    yield page.tab


def wants_a_key(site: World, tabs: Tabs) -> Iterator[Tab]:
    page = watch(tabs, site.url)
    page.more("members").click()
    expect(page.tier("members").get_by_role("button", name="Enter a key")).to_be_visible()
    yield page.tab


def settings_not_in_force(site: World, tabs: Tabs) -> Iterator[Tab]:
    values = site.server.state.parent / "values.yaml"
    good = values.read_text()
    page = watch(tabs, site.url)
    try:
        values.write_text("tiers: {free: {quota: {cpu: two}}}\n")
        expect(page.page.locator("#alerts")).to_contain_text(re.compile("not in force.*quota.cpu"))
        yield page.tab
    finally:
        values.write_text(good)
    expect(page.page.locator("#alerts")).to_be_empty()


STATES = (all_tiers, opened, wants_a_key, settings_not_in_force)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_a_state_of_watch(
    state: Callable[[World, Tabs], Iterator[Tab]], site: World, tabs: Tabs, checker: Checker, screenshots: Path
) -> None:
    steps = state(site, tabs)
    try:
        judge(next(steps), checker, screenshots, f"watch-{state.__name__.replace('_', '-')}")
    finally:
        assert list(steps) == []  # it tidies up


def test_what_waits_is_counted_as_it_comes_and_goes(site: World, tabs: Tabs) -> None:
    page = watch(tabs, site.url)
    expect(page.figure("paused", "Waiting")).to_have_text("0")
    ids = site.fill("paused", 3, CAT)
    expect(page.figure("paused", "Waiting")).to_have_text("3")
    expect(page.tier("paused")).to_contain_text("quota pods: 0 of 0 used")
    expect(page.tier("paused")).to_contain_text(re.compile(r"oldest \d"))
    expect(page.page).to_have_title(re.compile(r"^5 waiting"))  # with those of full and broken
    site.empty(ids)
    expect(page.figure("paused", "Waiting")).to_have_text("0")


def test_quotas_and_workers_are_shown(site: World, tabs: Tabs) -> None:
    page = watch(tabs, site.url)
    expect(page.quota("free", "pods")).to_contain_text("1 of 10")
    expect(page.quota("free", "memory")).to_contain_text("512 MiB of 2 GiB")
    expect(page.tier("free")).to_contain_text(re.compile(r"idle \d"))
    with held(site.server, "free"):
        url = site.server.post("free", CAT, {"Prefer": "respond-async"}).headers["Location"]
        expect(page.tier("free")).to_contain_text(re.compile(r"busy \d"))
    assert site.server.get(f"{url}?wait=30").json["status"] == "succeeded"
    expect(page.tier("free")).to_contain_text(re.compile(r"idle \d"))


def test_what_a_tier_borrows_is_shown_on_both_pages(site: World, tabs: Tabs) -> None:
    words = "Share 10 % of the capacity: 11 % used, 1 % borrowed"
    page = watch(tabs, site.url)
    expect(page.tier("free")).to_contain_text(words)
    expect(page.tier("paused")).to_contain_text("Share 10 % of the capacity: 0 % used")
    expect(page.page.locator("#totals")).to_contain_text(re.compile(r"cpu \d(\.\d)? of 8 used"))
    page.page.get_by_role("link", name="Ask").click()
    expect(page.page.locator("#tiers > label").filter(has_text="free")).to_contain_text(words)


def test_a_worker_that_starts_is_shown_with_its_stage(site: World, tabs: Tabs) -> None:
    page = watch(tabs, site.url)
    assert not workers(site.server, "premium")
    expect(page.tier("premium")).to_contain_text("No worker")
    url = site.server.post("premium", CAT, {"Prefer": "respond-async"}).headers["Location"]
    with held(site.server, "premium"):
        expect(page.tier("premium")).to_contain_text(re.compile("starting.*loads"))
    assert site.server.get(f"{url}?wait=30").json["status"] == "succeeded"


def test_a_canary_and_a_breaker_are_told(site: World, tabs: Tabs) -> None:
    page = watch(tabs, site.url)
    expect(page.tier("trial")).to_contain_text(re.compile("20 % to the canary flowers@"))
    expect(page.tier("broken")).to_contain_text("Jobs fail")
    expect(page.tier("broken")).to_contain_text("cannot be loaded")
    expect(page.tier("broken")).to_contain_text(re.compile(r"next try (in \d+:\d\d|now)"))


def test_latest_predictions_and_jobs_are_shown_with_their_ends(site: World, tabs: Tabs) -> None:
    page = watch(tabs, site.url)
    page.more("free").click()
    rows = page.table("free", "Latest predictions").get_by_role("row")
    expect(rows.filter(has_text="succeeded").first).to_contain_text("ms")
    expect(rows.filter(has_text="failed")).to_contain_text("ends early")
    page.more("broken").click()
    job = page.table("broken", "Latest Jobs").get_by_role("row").filter(has_text="failed").first
    expect(job).to_contain_text("cannot be loaded")


def test_what_a_tier_did_is_for_those_who_have_its_key(site: World, tabs: Tabs) -> None:
    page = watch(tabs, site.url)
    assert site.server.post("members", CAT, site.key.headers).status == 200
    page.more("members").click()
    expect(page.table("members", "Latest predictions")).to_be_hidden()
    page.tier("members").get_by_role("button", name="Enter a key").click()
    page.page.get_by_label("Key", exact=True).fill(site.key.key)
    page.page.get_by_role("button", name="Use this key").click()
    expect(page.table("members", "Latest predictions").get_by_role("row").nth(1)).to_contain_text("succeeded")


def test_the_chart_is_a_table_too(site: World, tabs: Tabs) -> None:
    page = watch(tabs, site.url)
    page.more("free").click()
    page.tier("free").get_by_text("The last hour as a table").click()
    rows = page.table("free", "Minutes").get_by_role("row")
    expect(rows).to_have_count(61)
    chart = page.tier("free").locator("svg").first
    expect(chart).to_be_visible()


def test_updates_move_nothing_and_do_not_take_the_focus(site: World, tabs: Tabs) -> None:
    page = watch(tabs, site.url)
    page.more("free").focus()
    page.page.keyboard.press("Enter")
    expect(page.table("free", "Latest predictions")).to_be_visible()
    page.more("paused").focus()
    ids = site.fill("paused", 1, CAT)
    expect(page.figure("paused", "Waiting")).to_have_text("1")
    expect(page.tier("paused")).to_contain_text("Why they wait")
    expect(page.tier("paused")).to_contain_text(re.compile(r"oldest \d"))
    before = page.page.evaluate(PLACES)
    for number in range(2, 5):
        ids += site.fill("paused", 1, CAT)
        expect(page.figure("paused", "Waiting")).to_have_text(str(number))
    assert page.page.evaluate(PLACES) == before
    expect(page.more("paused")).to_be_focused()
    expect(page.table("free", "Latest predictions")).to_be_visible()
    site.empty(ids)


def test_the_keyboard_reaches_everything(site: World, tabs: Tabs) -> None:
    page: Watch = watch(tabs, site.url)
    expect(page.tier("free")).to_be_visible()
    page.page.keyboard.press("Tab")
    expect(page.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.page.keyboard.press("Enter")
    page.more("free").focus()
    page.page.keyboard.press("Enter")
    expect(page.table("free", "Workers now")).to_be_visible()
    page.page.keyboard.press("Enter")
    expect(page.table("free", "Workers now")).to_be_hidden()
