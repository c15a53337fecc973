"""The parts of the Watch page by themselves: changes in place, the chart of the hour, ages, and signs of workers."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page

from tests.page.browser import Tabs
from tests.page.test_files import FOLDER

KEYS = st.lists(st.integers(0, 12), unique=True, max_size=10)
COUNTS = st.integers(0, 10**6)
WAITS = st.none() | st.floats(0, 1e5).map(lambda most: (most / 3, most))
MINUTES = st.lists(st.tuples(COUNTS, COUNTS, WAITS), min_size=60, max_size=60)
AT = "2030-01-31T12:34:00Z"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def page(chromium: Browser) -> Iterator[Page]:
    """A document without anything, which may import the modules of the page."""
    tabs = Tabs(chromium)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(FOLDER))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            tab = tabs.open(f"http://127.0.0.1:{server.server_port}/format.js")
            tab.allow("favicon.ico")
            yield tab.page
            faults = tabs.close()
        finally:
            server.shutdown()
            thread.join(10)
    assert faults == []


def run(page: Page, body: str, given: Any = None) -> Any:
    """What a function of this body returns in the page for ``given``."""
    return page.evaluate(f"async given => {{ {body} }}", given)


FILL = """
const { fill } = await import("/live.js");
const parent = document.createElement("div");
document.body.replaceChildren(parent);
const make = key => {
  const element = document.createElement("button");
  return { element, update: item => { element.textContent = `${item}`; } };
};
const show = keys => {
  fill(parent, keys, key => key, make);
  return new Map([...parent.children].map(child => [Number(child.textContent), child]));
};
const before = show(given.before);
const focused = before.get(given.focused);
focused?.focus();
const after = show(given.after);
return {
  shown: [...after.keys()],
  same: given.after.filter(key => before.has(key)).every(key => before.get(key) === after.get(key)),
  focus: !focused || !after.has(given.focused) || document.activeElement === focused,
};
"""


@settings(deadline=None, max_examples=60)
@given(KEYS, KEYS, st.integers(0, 12))
def test_a_list_shows_its_items_in_order_and_keeps_the_elements_of_those_that_stay(
    page: Page, before: list[int], after: list[int], focused: int
) -> None:
    told = {"before": before, "after": after, "focused": focused}
    found = run(page, FILL, told)
    assert (found["shown"], found["same"]) == (after, True)


@settings(deadline=None, max_examples=60)
@given(KEYS, st.sets(st.integers(0, 12)), KEYS, st.integers(0, 12))
def test_who_is_on_an_item_stays_there_while_others_come_and_go(
    page: Page, before: list[int], gone: set[int], new: list[int], focused: int
) -> None:
    stay = [key for key in before if key not in gone]
    after = [key for key in new if key not in before] + stay
    assert run(page, FILL, {"before": before, "after": after, "focused": focused})["focus"]


CHART = """
const { HourChart } = await import("/chart.js");
const chart = new HourChart("free");
document.body.replaceChildren(chart.element);
chart.update(given);
const found = [...chart.element.querySelectorAll("path")];
const paths = Object.fromEntries(found.map(one => [one.className.baseVal, one.getAttribute("d")]));
const says = chart.plot.getAttribute("aria-label");
return { paths, says, html: chart.element.outerHTML, drawn: !chart.drawn.hidden };
"""


@settings(deadline=None, max_examples=20)
@given(MINUTES)
def test_the_chart_has_a_bar_for_each_minute_with_predictions_and_a_level_for_each_with_waits(
    page: Page, minutes: list[tuple[int, int, tuple[float, float] | None]]
) -> None:
    told = [
        {
            "at": AT,
            "accepted": accepted,
            "succeeded": 0,
            "failed": failed,
            "wait_p50": waits and waits[0],
            "wait_p95": waits and waits[1],
        }
        for accepted, failed, waits in minutes
    ]
    found = run(page, CHART, told)
    assert not re.search("NaN|undefined|Infinity", found["html"])
    assert found["drawn"] == any(accepted or failed for accepted, failed, _ in minutes)
    if not found["drawn"]:
        return
    paths = found["paths"]
    assert paths["accepted"].count("z") == sum(accepted > 0 for accepted, _, _ in minutes)
    assert paths["failed"].count("z") == sum(failed > 0 for _, failed, _ in minutes)
    assert paths["median"].count("H") == paths["most"].count("H") == sum(waits is not None for _, _, waits in minutes)
    heights = [float(number) for path in ("accepted", "failed") for number in re.findall(r"v-([\d.]+)", paths[path])]
    assert math.isclose(max(heights), 100)
    levels = [float(number) for number in re.findall(r"[MV](?:\d+ )?([\d.]+)H", paths["median"] + paths["most"])]
    assert all(0 <= level <= 100 for level in levels)
    total = sum(accepted for accepted, _, _ in minutes)
    assert f"{total:,} accepted" in found["says"]


def test_the_chart_says_that_nothing_happened(page: Page) -> None:
    quiet = {"at": AT, "accepted": 0, "succeeded": 0, "failed": 0, "wait_p50": None, "wait_p95": None}
    found = run(page, CHART, [quiet] * 60)
    assert not found["drawn"]
    assert "Nothing in the last hour" in found["html"]


def test_the_minute_that_is_pointed_at_is_told(page: Page) -> None:
    one = {"at": AT, "accepted": 7, "succeeded": 6, "failed": 1, "wait_p50": 0.25, "wait_p95": 12.0}
    run(page, CHART, [one] * 60)
    page.locator(".plot").hover()
    told = page.locator(".above").inner_text()
    assert re.search(r"\d\d:34 · 7 accepted · 1 failed · median wait 250 ms · 95 % within 12 s", told)
    page.mouse.move(0, 0)
    assert "median wait 250 ms" not in page.locator(".above").inner_text()


def test_ages_follow_the_clock_of_the_server(page: Page) -> None:
    found = run(
        page,
        """
        const { age, learnTime, secondsSince } = await import("/live.js");
        const hour = 3600 * 1000;
        const now = new Date(Date.now()).toISOString();
        learnTime(new Date(Date.now() + hour).toUTCString());
        const ahead = [age(now), Math.round(secondsSince(new Date(Date.now() + 2 * hour).toISOString()) / 10)];
        learnTime(new Date().toUTCString());
        return [...ahead, age(now), age(null)];
        """,
    )
    assert found[0] in ("60 min", "1 h")
    assert found[1:] == [-360, "0 s", ""]


def job(number: int, **more: Any) -> dict[str, Any]:
    told = {"name": f"job-{number}", "state": "busy", "stage": None, "node": f"node-{number % 3}", "model": "a@1"}
    return {**told, "opened_at": AT, "since": AT, "predictions": 1, "reason": "", **more}


WORKERS = """
const { Workers } = await import("/workers.js");
const workers = new Workers();
document.body.replaceChildren(workers.element);
for (const tier of given) workers.update(tier);
const signs = workers.element.querySelectorAll(".sign").length;
return { signs, text: workers.element.innerText, images: document.images.length };
"""


def test_few_workers_are_told_in_words(page: Page) -> None:
    jobs = [job(0), job(1, state="starting", stage="pulling", node=None), job(2, state="<img src=x>")]
    found = run(page, WORKERS, [{"jobs": jobs, "workers": 3}])
    assert "on node-0" in found["text"]
    assert "starting: pulls its image" in found["text"]
    assert (found["signs"], found["images"]) == (3, 0)


def test_many_workers_are_signs_by_node_with_their_numbers(page: Page) -> None:
    jobs = [job(number, state="idle" if number % 4 == 0 else "busy") for number in range(100)]
    found = run(page, WORKERS, [{"jobs": jobs, "workers": 130}])
    for words in ("75 busy", "25 idle", "30 more", "node-0", "node-1", "node-2"):
        assert words in found["text"]
    assert found["signs"] == 100 + 2  # and those that say what they mean


def test_workers_that_end_leave_nothing(page: Page) -> None:
    crowd = {"jobs": [job(number) for number in range(20)], "workers": 20}
    found = run(page, WORKERS, [crowd, {"jobs": [], "workers": 0}])
    assert (found["text"].strip(), found["signs"]) == ("No worker", 0)


SHARE = """
const { shareMeter } = await import("/share.js");
const meter = shareMeter();
document.body.replaceChildren(meter.element);
return given.map(lending => {
  meter.update(lending);
  const { style } = meter.element.lastChild;
  const ends = ["used", "free", "own", "all"].map(name => Number.parseFloat(style.getPropertyValue(`--${name}`)));
  return { shown: !meter.element.hidden, text: meter.element.innerText, ends };
});
"""


def lending(share: float, used: float, lent: float = 0) -> dict[str, Any]:
    return {"share": share, "used": used, "borrowed": max(0, used - share), "lent": lent, "recalled": 0}


def test_a_share_is_told_in_words_and_as_a_bar_and_not_without_a_capacity(page: Page) -> None:
    none, rest, borrows, lends = run(page, SHARE, [None, lending(0.25, 0), lending(0.5, 0.75), lending(0.5, 0.25, 0.2)])
    assert (none["shown"], rest["shown"]) == (False, True)
    assert rest["text"] == "Share 25 % of the capacity: 0 % used"
    assert borrows["text"] == "Share 50 % of the capacity: 75 % used, 25 % borrowed"
    assert lends["text"] == "Share 50 % of the capacity: 25 % used, 20 % lent"
    assert [one["ends"] for one in (rest, borrows, lends)] == [[0, 25, 25, 25], [50, 50, 50, 75], [25, 30, 50, 50]]


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 1), st.floats(0, 2), st.floats(0, 1))
def test_the_parts_of_the_bar_of_a_share_come_one_after_the_other(
    page: Page, share: float, used: float, lent: float
) -> None:
    (found,) = run(page, SHARE, [lending(share, used, min(lent, max(0, share - used)))])
    assert found["ends"] == pytest.approx(sorted(found["ends"]))
    assert not re.search("NaN|undefined|-\\d", found["text"])
