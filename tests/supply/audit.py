"""Asks a database of advisories about the locked packages: ``python -m tests.supply.audit [options of pip-audit]``.

The exit status is 0 if no package has a known hole, 1 if one has, and 2 if not every package could be asked about.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

LOCK = Path(__file__).parents[2] / "requirements.lock"
SECONDS = 600.0
CLEAN, HOLES, UNKNOWN = 0, 1, 2


def audit(lock: Path, options: Sequence[str] = ()) -> tuple[int, list[str]]:
    """Return the exit status, and the lines that say what was found. Waits ten minutes at most."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(lock), "--disable-pip", "--progress-spinner", "off"]
    try:
        ended = subprocess.run(
            [*command, "-f", "json", *options], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        packages: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return UNKNOWN, [f"nothing was audited: the database of advisories did not answer within {SECONDS:.0f} s"]
    except ValueError:
        last = (ended.stderr.strip().splitlines() or ["no reason was given"])[-1]
        return UNKNOWN, [f"nothing was audited, no database of advisories can be reached from here: {last[:300]}"]
    holes = [_line(package, hole) for package in packages for hole in package.get("vulns", ())]
    # pip-audit itself counts a package that the database does not know as one without holes.
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if len(unknown) == len(packages):
        return UNKNOWN, ["nothing was audited: what was reached has no advisories for any package (try ARGS='-s osv')"]
    lines = [*holes, f"{len(packages) - len(unknown)} packages were audited; known holes: {len(holes)}"]
    if unknown:
        lines.append(f"{len(unknown)} packages were not audited: {', '.join(unknown)}")
    return HOLES if holes else UNKNOWN if unknown else CLEAN, lines


def _line(package: dict[str, Any], hole: dict[str, Any]) -> str:
    fixed = f"fixed in {', '.join(hole['fix_versions'])}" if hole["fix_versions"] else "not fixed yet"
    return f"{package['name']} {package['version']}: {hole['id']}, {fixed}"


if __name__ == "__main__":
    status, said = audit(LOCK, sys.argv[1:])
    for line in said:
        click.echo(line)
    sys.exit(status)
