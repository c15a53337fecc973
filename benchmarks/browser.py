"""``python -m benchmarks.browser``: how soon Chromium shows the page, a label, and a change of the queue."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from playwright.sync_api import Browser, expect
from rich.console import Console
from rich.table import Table

from benchmarks.load import run
from benchmarks.machine import machine
from tests.page.asking import CAT, Ask, copies
from tests.page.browser import Tab, Tabs, browser
from tests.running import Service, service
from tests.waiting import eventually

PAINT_SECONDS = CHANGE_SECONDS = 0.5  # the targets, for p95
NOTED_SECONDS = 30.0
SECONDS = 3.0  # of requests without a browser
WAITING = 20  # predictions of the page while it is told of changes
PAINT = """() => new Promise(done => new PerformanceObserver(list => {
    const first = list.getEntriesByName('first-contentful-paint')[0];
    if (first) done(first.startTime);
}).observe({type: 'paint', buffered: true}))"""
# Each notes times by the clock of the machine, in milliseconds: when each place in the queue last changed its text, and
# when the first card came and when it the first card had its labels.
NOTE_PLACES = """() => {
    window.noted = new Map();
    for (const one of document.querySelectorAll('#cards > li[data-state=queued] strong')) {
        const note = () => window.noted.set(one, performance.timeOrigin + performance.now());
        new MutationObserver(note).observe(one, {subtree: true, childList: true, characterData: true});
    }
}"""
LAST = "Math.max(...window.noted.values())"
NOTE_STATES = """() => {
    window.begun = window.done = 0;
    new MutationObserver((_, observer) => {
        const card = document.querySelector('#cards > li');
        if (card && !window.begun) window.begun = performance.timeOrigin + performance.now();
        if (card?.dataset.state !== 'done') return;
        window.done = performance.timeOrigin + performance.now();
        observer.disconnect();
    }).observe(document.getElementById('cards'), {subtree: true, childList: true, attributes: true});
}"""


@dataclass(frozen=True, slots=True)
class Figure:
    """Seconds that something took, several times, and the target for their 95th percentile, if there is one."""

    what: str
    seconds: Sequence[float]
    target: float | None = None

    @property
    def p95(self) -> float:
        """The 95th percentile."""
        return quantiles(self.seconds, n=20, method="inclusive")[-1]


@contextmanager
def tab(chromium: Browser, url: str) -> Iterator[Tab]:
    """A page in a browser that has nothing in its cache. Raises ``RuntimeError`` if the page has a fault."""
    tabs = Tabs(chromium)
    yield tabs.open(url)
    if faults := tabs.close():
        raise RuntimeError(str(faults))


def paints(chromium: Browser, url: str, rounds: int) -> list[float]:
    """Seconds from the navigation to the first text on the screen, each in a new browser context."""
    found = []
    for _ in range(rounds):
        with tab(chromium, url) as shown:
            found.append(shown.page.evaluate(PAINT) / 1000)
    return found


def labels(chromium: Browser, server: Service, rounds: int) -> list[float]:
    """Seconds from the choice of a picture to its labels on the page; a worker is ready."""
    found = []
    with tab(chromium, address(server)) as shown:
        page = Ask(shown, "free")
        for _ in range(rounds):
            shown.page.evaluate(NOTE_STATES)
            page.choose(CAT)
            page.reaches("cat.jpg", "done")
            begun, done = shown.page.evaluate("[window.begun, window.done]")
            found.append((done - begun) / 1000)
            shown.page.get_by_role("button", name="Clear", exact=True).click()
            expect(page.cards).to_have_count(0)
    return found


def changes(chromium: Browser, server: Service, folder: Path, rounds: int) -> list[float]:
    """Seconds from the request that cancels the first of a queue to the new places of all others on the page."""
    found = []
    with tab(chromium, address(server)) as shown:
        page = Ask(shown, "free")
        paths = copies(folder, CAT, WAITING + rounds)
        for path in paths:  # one by one, so that the order is known
            page.choose(path)
            page.reaches(path.name, "queued")
        for number, first in enumerate(list(page.accepted)[:rounds]):
            left = len(paths) - number - 1
            shown.page.evaluate(NOTE_PLACES)
            began = time.time()
            answer = server.ask("DELETE", f"/v1/predictions/{first}")
            assert answer.json["status"] == "canceled", answer
            eventually(
                lambda: shown.page.evaluate("window.noted.size"),
                NOTED_SECONDS,
                f"{left} places are new",
                lambda size: size >= left,  # noqa: B023
            )
            found.append(shown.page.evaluate(LAST) / 1000 - began)
    return found


def address(server: Service) -> str:
    """Where the page is."""
    return f"http://127.0.0.1:{server.port}/"


def measure(models: Path, folder: Path, rounds: int) -> list[Figure]:
    """All figures."""
    with service(models, folder / "open") as server:
        one = run(server.port, "/img-classification/free", CAT.read_bytes(), 1, SECONDS)  # no browser runs yet
        with browser() as chromium:
            found = [
                Figure("first paint of /", paints(chromium, address(server), rounds), PAINT_SECONDS),
                Figure("first paint of /watch", paints(chromium, f"{address(server)}watch", rounds), PAINT_SECONDS),
                Figure("a picture chosen to its labels on the page", labels(chromium, server, rounds)),
                Figure("its limit: the request alone, without a browser", one.took),
            ]
    with service(models, folder / "paused", ["tiers.free.quota.pods=0"]) as server, browser() as chromium:
        told = changes(chromium, server, folder / "pictures", rounds)
        what = f"a change of the queue to {WAITING} to {WAITING + rounds} places on the page"
        return [*found, Figure(what, told, CHANGE_SECONDS)]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.browser", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path(".tierserve/models"), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=50, help="of each measurement (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print all measurements as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tierserve-browser-") as folder:
        figures = measure(options.models.resolve(), Path(folder), options.rounds)
    if options.json:
        print(json.dumps({one.what: list(one.seconds) for one in figures}))
        return
    table = Table("what", "p50 s", "p95 s", "target", "", title=machine())
    for one in figures:
        met = "" if one.target is None else "[green]met[/]" if one.p95 <= one.target else "[red]missed[/]"
        target = "" if one.target is None else f"p95 <= {one.target:g}"
        table.add_row(one.what, f"{median(one.seconds):.3f}", f"{one.p95:.3f}", target, met)
    Console().print(table)


if __name__ == "__main__":
    main()
