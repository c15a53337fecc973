"""The page of another site asks and follows if ``server.cors.origins`` lists it; a browser keeps out all others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error

from tests.page.browser import Tab, Tabs
from tests.page.site import site
from tests.running import Service, service
from tests.waiting import eventually

HTML = '<!DOCTYPE html><html lang="en"><title>Somebody else</title><link rel="icon" href="data:,">'
KEY = "tsk_00000000_unknown"
ASK = """async ([path, method, headers, picture]) => {
    const body = picture ? Uint8Array.from(atob(picture), one => one.charCodeAt(0)) : undefined;
    const answer = await fetch(path, {method, headers, body});
    return {status: answer.status, headers: Object.fromEntries(answer.headers), text: await answer.text()};
}"""
FOLLOW = """async path => {
    window.told = '';
    const reader = (await fetch(path)).body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part; !(part = await reader.read()).done;) window.told += part.value;
    window.told += 'END';
}"""


def ask(tab: Tab, path: str, method: str = "GET", picture: str = "", **headers: str) -> dict[str, Any]:
    """What the script of a page reads of an answer."""
    found: dict[str, Any] = tab.page.evaluate(ASK, [path, method, headers, picture])
    return found


def events(text: str) -> list[str]:
    return [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]


def test_a_listed_site_asks_follows_and_cancels(models: Path, tmp_path: Path, tabs: Tabs, tiny64: str) -> None:
    with site(HTML) as address:
        settings = ["tiers.free.quota.pods=0", f"server.cors.origins={{{address.removesuffix('/')}}}"]
        with service(models, tmp_path, settings) as server:
            tab = tabs.open(address, base(server))
            asked = ask(tab, f"{base(server)}/img-classification/free", "POST", tiny64, Prefer="respond-async")
            assert asked["status"] == 202
            assert asked["headers"]["location"] == f"/v1/predictions/{json.loads(asked['text'])['id']}"
            assert "x-request-id" in asked["headers"]
            location = base(server) + asked["headers"]["location"]
            tab.page.evaluate(f"path => {{ ({FOLLOW})(path) }}", f"{location}/events")
            told = "window.told"
            eventually(lambda: events(tab.page.evaluate(told)), 20, "the place in the queue is told")
            assert ask(tab, location, "DELETE")["status"] == 200
            eventually(lambda: tab.page.evaluate(told), 20, "the end is told", lambda text: text.endswith("END"))
            assert events(tab.page.evaluate(told)) == ["queued", "canceled"]
            # An error can be read as well, also one that ends the request before its route.
            tab.allow(r"status of 40\d")
            assert ask(tab, f"{base(server)}/v1/nothing")["status"] == 404
            assert ask(tab, location, **{"X-API-Key": KEY})["status"] == 401


def test_any_other_site_can_neither_ask_nor_read(models: Path, tmp_path: Path, tabs: Tabs, tiny64: str) -> None:
    settings = ["tiers.free.quota.pods=0", "server.cors.origins={https://app.example.org}"]
    with site(HTML) as address, service(models, tmp_path, settings) as server:
        tab = tabs.open(address, base(server))
        tab.allow("blocked by CORS policy", "net::ERR_FAILED", r"status of 40\d")
        for method, path in (("GET", "/v1/tiers"), ("POST", "/img-classification/free")):
            with pytest.raises(Error, match="Failed to fetch"):
                ask(tab, base(server) + path, method, tiny64 if method == "POST" else "")
        # A browser sends such a POST without asking before, so it is the server that refuses it.
        assert server.get("/v1/tiers/free").json["queued"] == 0


def base(server: Service) -> str:
    return f"http://127.0.0.1:{server.port}"
