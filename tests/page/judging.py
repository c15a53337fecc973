"""What must be true of a page in every state: accessible, valid, readable in light and dark, as wide as the screen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.page import axe
from tests.page.browser import Tab
from tests.page.checker import Checker

# By name: whether it is dark, and whether it is a phone.
LOOKS = {"light": (False, False), "dark": (True, False), "phone": (False, True)}
TOO_WIDE = """() => document.documentElement.scrollWidth > document.documentElement.clientWidth
    ? [...document.querySelectorAll('body *')]
        .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
        .map(one => one.outerHTML.slice(0, 120))
    : []"""


def judge(tab: Tab, checker: Checker, screenshots: Path, state: str, looks: Iterable[str] = LOOKS) -> None:
    """Make a screenshot of each look and find nothing wrong with the page. Raises ``AssertionError``."""
    found: list[str] = []
    for name in looks:
        dark, phone = LOOKS[name]
        tab.look(dark=dark, phone=phone)
        tab.picture(screenshots / f"{state}-{name}.png", phone)
        # Only the colours differ in the dark.
        found += [f"{name}: axe: {one}" for one in axe.findings(tab.page, *([axe.CONTRAST] if dark else []))]
        found += [f"{name}: wider than the screen: {one}" for one in tab.page.evaluate(TOO_WIDE)]
    found += [f"HTML: {one}" for one in checker.findings(tab.page.content())]
    assert not found, "\n".join(found)
