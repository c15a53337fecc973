"""Accessibility, as axe-core judges the live page: WCAG's rules and axe's best practices."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from playwright.sync_api import Page

CONTRAST = "color-contrast"


@cache
def _source() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")


def findings(page: Page, *rules: str) -> list[str]:
    """What axe finds wrong, by all its rules or by those named: the rule, what it asks for, and the elements.

    The script comes over the devtools protocol, which no Content-Security-Policy of the page concerns.
    """
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(_source())
    only = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    found: dict[str, Any] = page.evaluate(
        "only => axe.run(document, {...only, resultTypes: ['violations']})",
        only,
    )
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: {node['html']}: {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]
