"""``python -m tests.gate``: run every suite, or those named."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from tempfile import mkdtemp

import click

from tests.cluster.shell import interrupt
from tests.gate.gate import check
from tests.gate.suite import Suite, make, make_one
from tests.running import ROOT

HOUR = 3600.0
PACKAGES = (sys.executable, "-m", "tests.cluster", "packages", "--install")
CLUSTERS = [ROOT / ".tierserve" / name for name in ("e2e", "e2e-gw0", "e2e-gw1", "harness")]
"""The folders of clusters: of end-to-end tests in one process or in two, and of the tests of the cluster itself."""
SUITES = [
    Suite("lint", make("lint"), tests=False, vital=True),
    Suite("packages", lambda _: PACKAGES, tests=False),
    Suite("test", make("test"), alone=make_one, seconds=HOUR),
    Suite("test-faults", make("test-faults"), alone=make_one, seconds=HOUR),
    Suite("test-cluster", make("test-cluster"), alone=make_one, seconds=3 * HOUR, clusters=CLUSTERS),
]
"""The limits end suites that hang. Each is several times as long as the suite takes on a slow machine."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--logs", type=click.Path(file_okay=False, path_type=Path), help="An empty folder. [default: a new one]")
@click.argument("names", nargs=-1, type=click.Choice([suite.name for suite in SUITES]), metavar="[SUITE]...")
def main(logs: Path | None, names: tuple[str, ...]) -> None:
    """Run every suite, or those named, and sum up what failed: see docs/testing.md."""
    folder = Path(mkdtemp(prefix="tierserve-gate-")) if logs is None else logs.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise click.UsageError(f"{folder} is not empty")
    suites = [suite for suite in SUITES if not names or suite.name in names]
    sys.exit(0 if check(suites, folder, click.echo) else 1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)  # a shell starts what it runs in the background with SIGINT ignored
    main(prog_name="python -m tests.gate")
