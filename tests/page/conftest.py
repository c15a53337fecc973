"""A browser, tabs that may have no fault, and where screenshots go."""

from __future__ import annotations

import base64
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser

from tests.page import browser as browsers
from tests.page import checker as checkers
from tests.page.asking import CAT
from tests.page.browser import Tabs
from tests.page.checker import Checker
from tests.running import lacking


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    if browsers.program() is None:
        lacking(browsers.MISSING)
    with browsers.browser() as found:
        yield found


@pytest.fixture
def tabs(chromium: Browser) -> Iterator[Tabs]:
    """Tabs that are closed after the test; it fails if one of them has a fault."""
    found = Tabs(chromium)
    yield found
    faults = found.close()
    assert faults == []


@pytest.fixture(scope="package")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checker]:
    if shutil.which("java") is None:
        lacking(checkers.MISSING)
    with checkers.checker(tmp_path_factory.mktemp("checker") / "log") as found:
        yield found


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """The folder for screenshots: TIERSERVE_SCREENSHOTS, or one that pytest deletes later."""
    folder = Path(os.environ.get("TIERSERVE_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def tiny64() -> str:
    """A small picture, as a script of a page can be given it."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 30, 30)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="session")
def cat64() -> str:
    """The cat as a PNG, likewise."""
    file = io.BytesIO()
    Image.open(CAT).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
