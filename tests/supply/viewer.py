"""Replaces the viewer in server/viewer by a version of its npm package: ``python -m tests.supply.viewer [VERSION]``.

It needs npm, which checks the package by the digest that the registry tells. Without a version it is the latest one.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import click

FOLDER = Path(__file__).parents[2] / "server" / "viewer"
RECORD = FOLDER / "viewer.json"
PACKAGE = "openapi-explorer"
PROGRAM = f"{PACKAGE}.min.js"
FILES = {f"dist/browser/{PROGRAM}": PROGRAM, "LICENSE": "LICENSE"}
SECONDS = 300.0


def replace(version: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Fetch the package, put its files into the folder, and return the record of them, which is there too.

    Raises ``CalledProcessError``, ``TimeoutExpired``, and ``KeyError`` when the package has no such file.
    """
    with tempfile.TemporaryDirectory() as place:
        command = ["npm", "pack", "--json", f"{PACKAGE}@{version}"]
        packed = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=SECONDS, check=True)
        (told,) = json.loads(packed.stdout)
        with tarfile.open(Path(place) / told["filename"]) as package:
            for inside, name in FILES.items():
                file = package.extractfile(f"package/{inside}")
                assert file is not None, inside
                (folder / name).write_bytes(file.read())
            described = package.extractfile("package/package.json")
            assert described is not None
            license_name = json.load(described)["license"]
    record = {
        "package": PACKAGE,
        "version": told["version"],
        "license": license_name,
        "integrity": told["integrity"],
        "sha256": {name: digest(folder / name) for name in sorted(FILES.values())},
    }
    (folder / RECORD.name).write_text(json.dumps(record, indent=2) + "\n")
    return record


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    click.echo(json.dumps(replace(sys.argv[1] if len(sys.argv) > 1 else "latest"), indent=2))
