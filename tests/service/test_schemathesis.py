"""What schemathesis finds out about a running server from the description of its interface: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.access import Operator
from tests.running import ROOT, service

SEED, EXAMPLES = 20300131, 10
MOST_SECONDS = 240.0
CONFIG = """
hooks = "tests.service.schemathesis_hooks"
continue-on-failure = true
request-timeout = 70
max-stream-events = 1
[generation]
max-examples = {examples}
database = "none"
no-shrink = true
"""


@pytest.mark.timeout(300)
def test_schemathesis_finds_nothing(models: Path, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG.format(examples=EXAMPLES))
    # Each tier has a worker, so that what is asked for is soon there.
    with service(models, tmp_path / "state") as server:
        key = Operator(server.internal_port, server.state / "admin-token").create("anna", "free", "premium")
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "--no-color", "run"]
        command += [f"http://127.0.0.1:{server.port}/openapi.json", "--seed", str(SEED), "--checks", "all"]
        # DELETE cancels a prediction, which can be read after that.
        command += ["--exclude-checks", "use_after_free"]
        # In both headers, as schemathesis makes up what is in the other one.
        command += ["--header", f"Authorization: Bearer {key.key}", "--header", f"X-API-Key: {key.key}"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=MOST_SECONDS, check=False
        )
        log = server.log.read_text()
    assert ended.returncode == 0, ended.stdout[-20_000:] + ended.stderr[-2000:]
    assert "Tested:" in ended.stdout
    assert "Traceback" not in log
