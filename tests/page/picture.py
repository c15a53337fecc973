"""``python -m tests.page.picture``: makes docs/page.png and docs/page-dark.png, from a real run of the page."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import ViewportSize

from tests.page.asking import PICTURES, Ask
from tests.page.browser import Tab, Tabs, browser
from tests.running import ROOT, models_directory, service

DONE = [PICTURES / f"{name}.jpg" for name in ("cat", "rocket", "camera", "espresso", "brick")]
WAITING = PICTURES / "astronaut.jpg"
SIZE: ViewportSize = {"width": 1240, "height": 828}


def main() -> None:
    """Ask with pictures, of which one waits behind a quota, and write the page as it looks then."""
    settings = ["tiers.premium.quota.pods=0"]
    with tempfile.TemporaryDirectory(prefix="tierserve-picture-") as folder:
        state = Path(folder) / "state"
        with service(models_directory(), state, settings) as server, browser() as chromium:
            server.post("free", DONE[0].read_bytes())  # starts a worker
            tabs = Tabs(chromium)
            show(tabs.open(f"http://127.0.0.1:{server.port}/"))
            if faults := tabs.close():
                raise RuntimeError(str(faults))


def show(tab: Tab) -> None:
    """Send the pictures, and write the page in light and in dark."""
    page = Ask(tab, "free")
    page.choose(*DONE)
    for path in DONE:
        page.reaches(path.name, "done")
    page.pick("premium")
    page.choose(WAITING)
    page.reaches(WAITING.name, "queued")
    page.pick("free")
    for name, dark in (("page.png", False), ("page-dark.png", True)):
        tab.look(dark=dark)
        page.page.set_viewport_size(SIZE)
        shot = Image.open(io.BytesIO(page.page.screenshot()))
        shot.convert("RGB").save(ROOT / "docs" / name, optimize=True)


if __name__ == "__main__":
    main()
