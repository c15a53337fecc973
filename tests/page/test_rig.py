"""The tools with which pages are judged find what is wrong with a page, and nothing on one that is right."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.page import axe
from tests.page.browser import Tabs
from tests.page.checker import Checker
from tests.page.site import site

POLICY = "default-src 'none'; script-src 'self'; img-src 'self' data:"
RIGHT = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>A page</title><link rel="icon" href="data:,"></head>
<body><main><h1>Right</h1><p>Nothing is wrong here.</p></main>{more}</body></html>"""


def faults(chromium: Browser, more: str = "", script: str = "") -> list[str]:
    tabs = Tabs(chromium)
    linked = '<script src="/script.js"></script>' if script else ""
    with site(RIGHT.format(more=more + linked), script, POLICY) as url:
        tabs.open(url)
        return tabs.close()


def test_a_page_that_is_right_has_no_fault(chromium: Browser) -> None:
    assert faults(chromium, script="console.log('fine')") == []


@pytest.mark.parametrize(
    ("more", "script", "word"),
    [
        ("", "console.error('broken')", "broken"),
        ("", "null.length", "not caught"),
        ("", "Promise.reject(new Error('lost'))", "lost"),
        ("<script>1</script>", "", "Content Security Policy"),
        ('<p style="color: red">x</p>', "", "Content Security Policy"),
        ('<img src="http://elsewhere.example/x.png" alt="">', "", "another host"),
        ('<img src="/missing.png" alt="">', "", "404"),
    ],
)
def test_a_fault_is_found(chromium: Browser, more: str, script: str, word: str) -> None:
    assert word in " ".join(faults(chromium, more, script))


def test_what_a_test_allows_is_no_fault(chromium: Browser) -> None:
    tabs = Tabs(chromium)
    with site(
        RIGHT.format(more='<img src="/missing.png" alt=""><script src="/script.js"></script>'), "null.length", POLICY
    ) as url:
        tab = tabs.open(url)
        tab.allow("404")
        (fault,) = tabs.close()
        assert "not caught" in fault


def test_axe_finds_what_is_not_accessible(tabs: Tabs) -> None:
    with site(RIGHT.format(more="")) as url:
        page = tabs.open(url).page
        assert axe.findings(page) == []
        page.evaluate("document.querySelector('p').append(document.createElement('button'))")
        assert [one.split()[0] for one in axe.findings(page)] == ["button-name"]
        page.evaluate("document.querySelector('h1').style.color = '#ddd'")
        assert [one.split()[0] for one in axe.findings(page, axe.CONTRAST)] == ["color-contrast"]


def test_the_checker_finds_what_is_not_valid(checker: Checker) -> None:
    assert checker.findings(RIGHT.format(more="")) == []
    assert "Duplicate ID" in " ".join(checker.findings(RIGHT.format(more='<p id="a"></p><p id="a"></p>')))
    assert "not allowed as child" in " ".join(checker.findings(RIGHT.format(more="<p><ul></ul></p><li></li>")))
