"""People ask with the page: however a picture comes, it gets its label, or words that say why not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.page.asking import CAT, PICTURES, Ask, ask, tidied
from tests.page.browser import Tabs
from tests.page.world import World, world

COMMAND_SECONDS = 60.0
PASTE = """async picture => {
    const bytes = Uint8Array.from(atob(picture), one => one.charCodeAt(0));
    await navigator.clipboard.write([new ClipboardItem({'image/png': new Blob([bytes], {type: 'image/png'})})]);
}"""
KEPT = """() => [
    location.href, document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.title,
    ...performance.getEntriesByType('resource').map(one => one.name)
].join(' ')"""


@pytest.fixture(scope="module")
def site(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(models, tmp_path_factory.mktemp("asking")) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a folder in it, two pictures, and a file that is none."""
    inner = tmp_path / "animals" / "cats"
    inner.mkdir(parents=True)
    shutil.copy(CAT, inner / "tiger.jpg")
    Image.open(CAT).save(tmp_path / "animals" / "cat.png")
    (tmp_path / "animals" / "notes.txt").write_text("no picture")
    return tmp_path / "animals"


def is_cat(page: Ask, name: str) -> None:
    page.reaches(name, "done")
    page.shows(name, re.compile("cat"), re.compile(r"\d+ %"), re.compile(r"queue.*predict.*total.* ms"))


def test_a_dropped_picture_gets_its_label(site: World, tabs: Tabs) -> None:
    page = ask(tabs, site.url)
    page.drop(CAT)
    is_cat(page, "cat.jpg")


def test_a_chosen_picture_gets_its_label(site: World, tabs: Tabs) -> None:
    page = ask(tabs, site.url)
    page.choose(CAT, PICTURES / "rocket.jpg")
    is_cat(page, "cat.jpg")
    page.shows("rocket.jpg", "missile")


def test_a_pasted_picture_gets_its_label(site: World, tabs: Tabs, cat64: str) -> None:
    page = ask(tabs, site.url)
    page.page.evaluate(PASTE, cat64)
    page.page.keyboard.press("Control+v")
    page.reaches("image.png", "done")
    page.shows("image.png", re.compile("cat"))


@pytest.mark.parametrize("way", ["drop", "choose"])
def test_the_pictures_of_a_folder_get_their_labels(site: World, tabs: Tabs, folder: Path, way: str) -> None:
    page = ask(tabs, site.url)
    if way == "drop":
        page.drop(folder)
    else:
        page.choose(folder, button="Choose a folder")
    for name in ("cat.png", "cats/tiger.jpg" if way == "choose" else "tiger.jpg"):
        is_cat(page, name)
    expect(page.cards).to_have_count(2)
    expect(page.page.get_by_text("1 file of the folder left out")).to_be_visible()


def test_somebody_without_a_picture_tries_ours(site: World, tabs: Tabs) -> None:
    page = ask(tabs, site.url)
    page.page.get_by_role("button", name="Try one of ours").click()
    is_cat(page, "cat.jpg")


def test_a_phone_offers_its_camera(site: World, tabs: Tabs) -> None:
    page = ask(tabs, site.url)
    expect(page.page.get_by_role("button", name="Take a photo")).to_be_hidden()
    page.tab.look(phone=True)
    page.page.reload()
    with page.page.expect_file_chooser() as chosen:
        page.page.get_by_role("button", name="Take a photo").click()
    assert chosen.value.element.get_attribute("capture") == "environment"
    chosen.value.set_files(CAT)
    is_cat(page, "cat.jpg")


def test_as_many_labels_as_are_wanted(site: World, tabs: Tabs) -> None:
    page = ask(tabs, site.url)
    page.page.get_by_label("Labels for each picture").fill("2")
    page.choose(CAT)
    page.reaches("cat.jpg", "done")
    expect(page.card("cat.jpg").get_by_text(re.compile(r"\d %"))).to_have_count(2)


def test_the_place_in_the_queue_is_shown_as_it_changes(site: World, tabs: Tabs) -> None:
    page = ask(tabs, site.url, "paused")
    with tidied(page, site):
        for number, path in enumerate((CAT, PICTURES / "rocket.jpg", PICTURES / "clock.jpg"), start=1):
            page.choose(path)
            page.shows(path.name, re.compile(rf"^.*{number}(st|nd|rd) in the queue"), "quota pods: 0 of 0 used")
        page.press("cat.jpg", "Cancel cat.jpg")
        page.reaches("cat.jpg", "canceled")
        page.shows("rocket.jpg", "1st in the queue")
        page.shows("clock.jpg", "2nd in the queue", "1 other before it")
        assert site.tier("paused")["queued"] == 2
        expect(page.page).to_have_title("(1/3) Ask · tierserve")


def test_what_others_do_to_a_prediction_is_shown(site: World, tabs: Tabs) -> None:
    page = ask(tabs, site.url, "paused")
    with tidied(page, site):
        page.choose(CAT)
        page.shows("cat.jpg", "1st in the queue")
        site.empty(page.accepted)
        page.reaches("cat.jpg", "canceled")


def test_a_full_queue_is_told_and_the_picture_is_sent_again(site: World, tabs: Tabs) -> None:
    before = site.fill("full", 1, CAT.read_bytes())
    page = ask(tabs, site.url, "full")
    page.tab.allow("status of 429")
    with tidied(page, site):
        page.choose(CAT)
        page.shows("cat.jpg", "The queue is full", re.compile("sent again in"))
        site.empty(before)
        page.reaches("cat.jpg", "queued")


def test_a_tier_that_wants_a_key_gets_it_and_nothing_keeps_it(site: World, tabs: Tabs) -> None:
    page = ask(tabs, site.url, "members")
    page.tab.allow("status of 401")
    page.choose(CAT)
    page.shows("cat.jpg", "This tier wants a key")
    page.press("cat.jpg", "Enter a key")
    page.enter_key("tsk_000000000000_" + 32 * "0")
    page.shows("cat.jpg", "The key is not known here")
    page.press("cat.jpg", "Enter a key")
    page.enter_key(site.key.key)
    is_cat(page, "cat.jpg")
    secret = site.key.key.rsplit("_", 1)[1]
    assert secret not in page.page.evaluate(KEPT)
    assert secret not in page.page.content()
    assert page.tab.context.cookies() == []
    page.page.reload()
    page.pick("members")
    page.choose(CAT)
    page.shows("cat.jpg", "This tier wants a key")


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("cut.jpg", lambda path: path.write_bytes(CAT.read_bytes()[:20_000]), ["cut off", "after 20000 bytes"]),
        ("notes.jpg", lambda path: path.write_text("words"), ["cannot be read"]),
        ("empty.png", lambda path: path.write_bytes(b""), ["The file is empty"]),
        ("large.jpg", lambda path: path.write_bytes(CAT.read_bytes() + bytes(11 << 20)), ["too large", "10 MiB"]),
        ("wide.png", lambda path: Image.new("1", (9000, 3000)).save(path), ["too large", "24 megapixels"]),
    ],
)
def test_a_picture_that_cannot_be_read_says_why(
    site: World, tabs: Tabs, tmp_path: Path, name: str, make: Callable[[Path], object], words: list[str]
) -> None:
    make(tmp_path / name)
    page = ask(tabs, site.url)
    page.tab.allow("status of 422")
    page.choose(tmp_path / name, CAT)
    page.reaches(name, "failed")
    page.shows(name, *words)
    is_cat(page, "cat.jpg")  # one that fails holds up no other


def test_the_keyboard_is_enough(site: World, tabs: Tabs) -> None:
    page = ask(tabs, site.url)
    keys = page.page.keyboard
    page.page.get_by_role("radio", name=re.compile("^free")).focus()
    keys.press("ArrowDown")
    expect(page.page.get_by_role("radio", name=re.compile("^premium"))).to_be_checked()
    keys.press("ArrowUp")
    keys.press("Tab")
    expect(page.page.get_by_label("Labels for each picture")).to_be_focused()
    keys.press("Tab")
    expect(page.page.get_by_role("button", name="Choose pictures")).to_be_focused()
    with page.page.expect_file_chooser() as chosen:
        keys.press("Enter")
    chosen.value.set_files(CAT)
    is_cat(page, "cat.jpg")
    copy = page.card("cat.jpg").get_by_role("button", name="Copy")
    for _ in range(12):
        keys.press("Tab")
        if copy.evaluate("one => one === document.activeElement"):
            break
    keys.press("Enter")
    expect(page.page.get_by_role("dialog")).to_be_visible()
    keys.press("Escape")
    expect(page.page.get_by_role("dialog")).to_be_hidden()
    expect(copy).to_be_focused()


def test_updates_do_not_take_the_focus(site: World, tabs: Tabs) -> None:
    page = ask(tabs, site.url, "paused")
    before = site.fill("paused", 2, CAT.read_bytes())
    with tidied(page, site):
        page.choose(CAT)
        page.shows("cat.jpg", re.compile("(2nd|3rd) in the queue"))
        cancel = page.card("cat.jpg").get_by_role("button", name="Cancel cat.jpg")
        cancel.focus()
        site.empty(before)
        page.shows("cat.jpg", "1st in the queue")
        expect(cancel).to_be_focused()


def copied(page: Ask, form: str) -> str:
    page.page.get_by_role("dialog").get_by_text(form, exact=True).click()
    page.page.get_by_role("dialog").get_by_role("button", name="Copy", exact=True).click()
    expect(page.page.get_by_text("Copied.")).to_be_visible()
    text: str = page.page.evaluate("navigator.clipboard.readText()")
    return text


def test_results_and_requests_are_copied(site: World, tabs: Tabs) -> None:
    page = ask(tabs, site.url, "members")
    page.page.get_by_role("button", name="Key", exact=True).click()
    page.enter_key(site.key.key)
    page.choose(CAT, PICTURES / "rocket.jpg")
    for name in ("cat.jpg", "rocket.jpg"):
        page.reaches(name, "done")
    page.page.get_by_role("button", name="Copy all").click()
    first, second = json.loads(copied(page, "JSON"))
    assert (first["picture"], second["picture"]) == ("cat.jpg", "rocket.jpg")
    label = first["results"][0]["labels"][0]["label"]
    assert copied(page, "CSV").splitlines()[1].startswith(f"cat.jpg,succeeded,members,{first['model']},1,{label},")
    for form, command in (("curl", ["bash", "-c"]), ("Python", [sys.executable, "-c"])):
        text = copied(page, form)
        assert site.key.key.rsplit("_", 1)[1] not in text
        env = {"PATH": "/usr/bin:/bin", "TIERSERVE_KEY": site.key.key}
        words = [*command, text]
        done = subprocess.run(words, cwd=PICTURES, env=env, capture_output=True, text=True, timeout=COMMAND_SECONDS)
        assert done.returncode == 0, (text, done.stderr)
        assert label in done.stdout
