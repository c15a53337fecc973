"""One server with both tiers, shared by the tests that leave nothing behind, and pictures in several forms."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.running import ROOT, Service, service

PAUSED = ["tiers.free.quota.pods=0"]  # the tier accepts predictions and starts no worker


@pytest.fixture(scope="session")
def running(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(models, tmp_path_factory.mktemp("running"), ["tiers.premium.quota.cpu=1"]) as found:
        yield found


@pytest.fixture(scope="session")
def cat() -> bytes:
    return (ROOT / "model" / "pictures" / "cat.jpg").read_bytes()


@pytest.fixture(scope="session")
def tiny() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()
