"""The moving picture of the queue: a short run of its scene is drawn, and moves in a browser."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import pytest
from PIL import Image
from playwright.sync_api import Browser, ViewportSize

from benchmarks.moving_picture.__main__ import PICTURE, picture
from benchmarks.moving_picture.frames import ABSENT, BUSY, IDLE, PLACE, STARTING, frames
from benchmarks.moving_picture.run import FREE, PREMIUM, Passage, Recording, Scene
from benchmarks.moving_picture.timeline import Timeline
from tests.page import browser as browsers
from tests.running import ROOT, lacking

SHORT = Scene(flood=30, wave=5, images=2, workers=(1, 2), pause=0.6, idle=(0.3, 0.3))
BYTES = 150_000
SVG = "{http://www.w3.org/2000/svg}"
SEEK = "seconds => document.getAnimations().forEach(one => { one.pause(); one.currentTime = seconds * 1000 })"
SHOWN = """() => [...document.querySelectorAll('.done')].map(all => {
    const place = all.parentElement.getScreenCTM()
    return [...all.querySelectorAll('text')].filter(line => {
        const box = line.getBoundingClientRect()
        const middle = (box.top + box.bottom) / 2
        return middle > place.f && middle < place.f + 30 * place.d
    }).map(line => line.textContent)
})"""
PAGE: ViewportSize = {"width": 960, "height": 456}
CORNER = (40, 4, 41, 5)


@pytest.fixture(scope="module")
def drawn(models: Path) -> tuple[float, str]:
    return picture(SHORT, models)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if browsers.program() is None:
        lacking(browsers.MISSING)
    with browsers.browser() as found:
        yield found


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_a_run_is_drawn_from_nobody_waits_to_all_have_labels(drawn: tuple[float, str]) -> None:
    seconds, svg = drawn
    told = texts(svg)
    assert 3 < seconds < 120
    assert len(svg) < BYTES
    assert {"0", "30", "10", "nobody waits", "quota: 1 worker", "quota: 2 workers"} <= set(told)
    assert [text for text in told if re.fullmatch(r"\d+ waits?, the first of them for [\d.]+ s", text)]
    assert any("quota pods: 1 of 1 used" in text for text in told)
    root = ElementTree.fromstring(svg)
    description = root.findtext(f"{SVG}desc") or ""
    assert "The quota of free is raised to 2 workers" in description
    assert root.findtext(f"{SVG}title")


def test_a_drawing_needs_nothing_from_elsewhere(drawn: tuple[float, str]) -> None:
    assert re.findall(r"https?://[^\"]+|@import|<script|href", drawn[1]) == ["http://www.w3.org/2000/svg"]


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_a_browser_shows_how_it_goes_on_unless_somebody_wants_no_motion(
    drawn: tuple[float, str], chromium: Browser, tmp_path: Path, motion: Literal["no-preference", "reduce"]
) -> None:
    seconds, svg = drawn
    (tmp_path / "queue.svg").write_text(svg, "utf-8")
    page = chromium.new_page(viewport=PAGE, reduced_motion=motion)
    page.goto((tmp_path / "queue.svg").as_uri())
    seen = []
    for moment in (0.0, seconds + 0.1):
        page.evaluate(SEEK, moment)
        seen.append(page.evaluate(SHOWN))
    page.close()
    if motion == "reduce":
        assert seen[0] == seen[1]
        assert all(len(lines) == 1 for lines in seen[0])
    else:
        assert seen == [[["0"], ["0"]], [["30"], ["10"]]]


def test_the_picture_of_the_readme_is_small_and_has_colours_for_light_and_dark(chromium: Browser) -> None:
    assert PICTURE.stat().st_size < BYTES
    relative = PICTURE.relative_to(ROOT).as_posix()
    assert re.search(rf'<img src="{relative}" alt="[^"]+">|!\[[^\]]+\]\({relative}\)', (ROOT / "README.md").read_text())
    shots = []
    for scheme in ("light", "dark"):
        page = chromium.new_page(viewport=PAGE, color_scheme=scheme)
        page.goto(PICTURE.as_uri())
        shots.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        page.close()
    light, dark = (shot.crop(CORNER).tobytes() for shot in shots)
    assert min(light) > 200
    assert max(dark) < 50


def look(job: str | None, state: str, pods: int, reason: str = "") -> dict[str, object]:
    jobs = [] if job is None else [{"name": job, "state": state}]
    return {"quota": {"pods": {"hard": float(pods)}}, "jobs": jobs, "reason": reason}


def test_a_moment_has_what_was_true_then() -> None:
    rest = look(None, "", 1)
    recording = Recording(
        began=100.0,
        acts=[(100.1, "one comes")],
        looks=[
            (99.9, {FREE: look(None, "", 1), PREMIUM: rest}),
            (100.3, {FREE: look("a", "starting", 1, "a worker is starting"), PREMIUM: rest}),
            (100.5, {FREE: look("a", "busy", 2), PREMIUM: rest}),
            (100.7, {FREE: look("a", "idle", 2), PREMIUM: rest}),
        ],
        passages=[Passage(FREE, 100.1, 100.5, 100.7)],
        ended=100.81,
    )
    free = [frame.lanes[FREE] for frame in frames(recording)]
    assert [frame.act for frame in frames(recording)] == ["", *["one comes"] * 4]
    assert [(lane.queued, lane.predicting, lane.done) for lane in free] == [
        (0, 0, 0), (1, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)
    ]  # fmt: skip
    assert [lane.slots for lane in free] == [
        (PLACE, ABSENT), (PLACE, ABSENT), (STARTING, ABSENT), (BUSY, PLACE), (IDLE, PLACE)
    ]  # fmt: skip
    assert [lane.reason for lane in free] == ["", "", "a worker is starting", "", ""]
    assert free[2].oldest == pytest.approx(0.3)


def test_an_animation_has_a_frame_for_each_change_and_the_still_value() -> None:
    line = Timeline(10.0, still=6.0)
    changes = [(0.0, "opacity:0"), (2.5, "opacity:0"), (5.0, "opacity:1"), (8.0, "opacity:0")]
    name = line.animate(changes)
    assert line.animate(changes) == name
    assert line.animate([(0.0, "opacity:1")]) != name
    css = line.css()
    assert f".{name}{{opacity:1;animation:{name} 10s step-end infinite}}" in css
    assert f"@keyframes {name}{{0.00%{{opacity:0}}50.00%{{opacity:1}}80.00%{{opacity:0}}}}" in css
    assert css.count("@keyframes") == 1
