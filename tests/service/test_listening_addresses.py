"""A server that listens at addresses of IPv6."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import ROOT, Client, Service


@pytest.mark.parametrize("host", ["::1", "::"])
def test_server_worker_and_command_meet_over_ipv6(models: Path, tmp_path: Path, cat: bytes, host: str) -> None:
    found = Service(tmp_path, models, [f"server.host={host}", "tiers.premium.quota.pods=0"])
    found.host = "::1"
    found.start()
    try:
        assert found.post("free", cat, {"Prefer": "wait=30"}).json["results"][0]["labels"]
        assert found.post("free", cat, {"Host": "other.example.org"}).status == (421 if host == "::1" else 200)
        url = f"http://[::1]:{found.port}"
        argv = [sys.executable, "-m", "server", "classify", "--url", url, "model/pictures/cat.jpg"]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, "cat" in done.stdout) == (0, True), done.stdout + done.stderr
        if host == "::":
            assert Client(found.port).get("/healthz").status == 200
        else:
            assert f"takes pictures at {url}  " in found.log.read_text()
    finally:
        found.stop()
