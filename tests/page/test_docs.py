"""The page that shows the interface, in a real browser: its samples, its key, and what it looks like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from server.openapi.document import operations
from tests.page import axe
from tests.page.browser import Tab, Tabs
from tests.page.checker import Checker
from tests.running import ROOT, Service, service

# The tiers accept predictions and start no workers.
PAUSED = ["tiers.free.quota.pods=0", "tiers.premium.quota.pods=0", "tiers.free.waits.syncSeconds=1"]


@pytest.fixture(scope="module")
def paused(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(models, tmp_path_factory.mktemp("docs"), PAUSED) as found:
        yield found


def opened(tabs: Tabs, server: Service) -> Tab:
    """The page once the viewer shows the interface."""
    tab = tabs.open(f"http://127.0.0.1:{server.port}/docs")
    expect(tab.page.get_by_text("Classify pictures").first).to_be_visible()
    return tab


def show(page: Page, operation: str) -> None:
    page.get_by_role("link", name=operation).or_(page.get_by_text(operation, exact=True)).first.click()
    expect(page.get_by_text("Code samples", exact=False).first).to_be_visible()


def test_each_operation_shows_samples_in_three_languages_for_this_server(tabs: Tabs, paused: Service) -> None:
    page = opened(tabs, paused).page
    show(page, "Classify pictures")
    for language, word in (("curl", "--data-binary"), ("Python", "urlopen"), ("JavaScript", "await fetch")):
        page.get_by_role("button", name=language, exact=True).click()
        sample = page.locator(".code-sample-wrapper:visible")
        expect(sample).to_contain_text(word)
        expect(sample).to_contain_text(f"http://127.0.0.1:{paused.port}/img-classification/free")


def test_the_viewer_sends_the_key_of_the_page_and_nobody_keeps_it(tabs: Tabs, paused: Service) -> None:
    tab = opened(tabs, paused)
    page = tab.page
    tab.allow("401")
    page.get_by_role("button", name="Key").click()
    page.get_by_label("Key", exact=True).fill("tsk_none_such")
    page.get_by_role("button", name="Use this key").click()
    show(page, "Every tier, and how busy it is")
    with page.expect_request("**/v1/tiers") as asked:
        page.get_by_role("button", name="Execute").click()
    assert asked.value.all_headers()["authorization"] == "Bearer tsk_none_such"
    expect(page.get_by_text("key_unknown").first).to_be_visible()
    assert "tsk_none_such" not in page.evaluate("JSON.stringify([localStorage, sessionStorage, location.href])")


def test_it_is_valid_and_accessible_in_light_and_dark_and_on_a_phone(
    tabs: Tabs, paused: Service, checker: Checker, screenshots: Path
) -> None:
    assert checker.findings((ROOT / "server" / "viewer" / "docs.html").read_text()) == []
    for name, dark, phone in (("light", False, False), ("dark", True, False), ("phone", False, True)):
        tab = opened(tabs, paused)
        tab.look(dark, phone)
        tab.page.wait_for_timeout(300)
        assert axe.findings(tab.page) == []
        show(tab.page, "Classify pictures")
        tab.page.screenshot(path=screenshots / f"docs-{name}.png")
        assert axe.findings(tab.page) == []


def samples(whole: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The samples in JavaScript, each with the name of its operation."""
    for operation in operations(whole).values():
        (source,) = [one["source"] for one in operation["x-codeSamples"] if one["lang"] == "JavaScript"]
        yield operation["operationId"], source


def test_the_samples_in_javascript_run(tabs: Tabs, paused: Service) -> None:
    """Each runs on a page of this server that has a field for a file, until it has said something."""
    tab = opened(tabs, paused)
    made = paused.ask(
        "POST", "/img-classification/free", b"\xff\xd8\xff" + bytes(100), {"Prefer": "respond-async"}
    ).json
    whole = paused.get("/openapi.json").json
    (model,) = whole["paths"]["/v1/models/{reference}"]["get"]["parameters"]
    reference = paused.get("/v1/models").json["models"][0]["reference"]
    real = {
        "http://localhost:8080": f"http://127.0.0.1:{paused.port}",
        whole["components"]["parameters"]["predictionId"]["example"]: made["id"],
        model["example"]: reference,
        whole["components"]["parameters"]["version"]["example"]: reference.partition("@")[2],
    }
    tab.allow("401", "504")  # to the placeholder of a key, and where nothing but the end is an answer
    for name, source in samples(whole):
        for placeholder, value in real.items():
            source = source.replace(placeholder, value)
        tab.page.evaluate("document.body.innerHTML = '<input type=file>'")
        tab.page.locator("input").set_input_files(ROOT / "model" / "pictures" / "cat.jpg")
        with tab.page.expect_console_message(lambda message: message.type == "log"):
            tab.page.evaluate(f"() => {{ (async () => {{ {source} }})(); }}")  # not as eval, which the policy forbids
        if name == "cancelPrediction":
            assert paused.get(f"/v1/predictions/{made['id']}").json["status"] == "canceled"
