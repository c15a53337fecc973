"""The page Watch, as an operator looks at it."""

from __future__ import annotations

from playwright.sync_api import Locator

from tests.page.browser import Tab, Tabs


class Watch:
    """A tab with the page."""

    def __init__(self, tab: Tab) -> None:
        self.tab, self.page = tab, tab.page

    def tier(self, name: str) -> Locator:
        """The panel of a tier."""
        return self.page.get_by_role("article", name=name, exact=True)

    def figure(self, tier: str, name: str) -> Locator:
        """One of a tier's figures."""
        return self.tier(tier).locator("dt", has_text=name).locator("xpath=following-sibling::dd").first

    def quota(self, tier: str, resource: str) -> Locator:
        """How much of a resource is used, and its meter."""
        return self.tier(tier).locator(".quota > li").filter(has_text=resource)

    def more(self, tier: str) -> Locator:
        """What shows a tier's latest predictions and Jobs."""
        return self.tier(tier).locator("summary").first

    def table(self, tier: str, title: str) -> Locator:
        """A table of a tier that is open."""
        return self.tier(tier).get_by_role("table", name=title)


def watch(tabs: Tabs, url: str) -> Watch:
    """Open the page; the clipboard is open to it."""
    return Watch(tabs.open(f"{url}watch", permissions=("clipboard-read", "clipboard-write")))
