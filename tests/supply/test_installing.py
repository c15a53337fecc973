"""The script that installs packages brings its own tools, and asks the index that pip's settings name."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parents[2]
WHEEL = "uv-1.0-py3-none-any.whl"
UV = """#!/bin/sh
cd "$(dirname "$0")"
echo "$UV_DEFAULT_INDEX|$UV_INDEX|$UV_INSECURE_HOST" >settings.txt
echo "$@" >words.txt
"""
"""An installer of another make: it writes down what it was asked for."""


class Index(SimpleHTTPRequestHandler):
    """Serves a folder, and tells nothing on the terminal."""

    def log_message(self, *args: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a lock of one package, uv, an index that has it, and a virtual environment without pip."""
    folder = tmp_path / "index" / "uv"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        record = ""
        for name, text in {
            "uv-1.0.data/scripts/uv": UV,
            "uv-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: uv\nVersion: 1.0\n",
            "uv-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100755 << 16
            wheel.writestr(entry, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
            record += f"{name},sha256={digest},{len(text)}\n"
        wheel.writestr("uv-1.0.dist-info/RECORD", record + "uv-1.0.dist-info/RECORD,,\n")
    (folder / "index.html").write_text(f'<a href="{WHEEL}">{WHEEL}</a>')
    lock(tmp_path, hashlib.sha256((folder / WHEEL).read_bytes()).hexdigest())
    venv.create(tmp_path / "venv", with_pip=False)
    return tmp_path


def lock(project: Path, digest: str) -> None:
    (project / "requirements.lock").write_text(f"uv==1.0 \\\n    --hash=sha256:{digest}\n")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL at which the folder is served while the block lasts."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Index, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def install(project: Path, settings: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script with pip's settings of a file and of the environment, and with no others."""
    (project / "pip.conf").write_text(settings)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "PYTHON"))}
    return subprocess.run(
        ["sh", ROOT / "docker" / "install.sh", "venv/bin", "venv/bin/python", "tiny"],
        cwd=project,
        env=kept | {"PIP_CONFIG_FILE": str(project / "pip.conf")} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_tools_without_pip_get_one_and_the_uv_of_the_lock_which_asks_where_pip_would(
    project: Path,
) -> None:
    with served(project / "index") as index:
        done = install(project, f"[global]\nindex-url = {index}\n")
    assert done.returncode == 0, done.stderr
    assert told(project) == f"{index}||"
    words = (project / "venv/bin/words.txt").read_text()
    assert words == "pip install --python venv/bin/python -c requirements.lock -b requirements.lock tiny\n"
    (project / "pip").symlink_to(project / "venv/bin/pip")
    version = [str(project / "pip"), "--version"]
    assert subprocess.run(version, capture_output=True, text=True, check=True).stdout.startswith("pip 2")

    other = "http://one/it's?a=$HOME"
    more = f"extra-index-url =\n    {other}\n    http://two\n[download]\nindex-url = http://nobody\n"
    settings = f"[global]\nindex-url = http://four\ntrusted-host = one\n{more}"
    assert install(project, settings, PIP_INDEX_URL="http://three").returncode == 0
    assert told(project) == f"http://three|{other}\nhttp://two|one"

    unreadable = install(project, "index-url = nothing\n")
    assert unreadable.returncode != 0
    assert "pip.conf" in unreadable.stderr


def test_a_python_without_ensurepip_is_told_what_it_lacks(project: Path) -> None:
    """As Debian has it without the package python3-venv."""
    (project / "ensurepip.py").write_text("raise ModuleNotFoundError")
    done = install(project, "", PYTHONPATH=str(project))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "this Python comes without pip; install its module venv (on Debian: apt-get install python3-venv)"
    ]
    assert not (project / "venv/bin/pip").exists()


def test_a_uv_with_another_hash_than_that_of_the_lock_is_refused(project: Path) -> None:
    lock(project, "0" * 64)
    with served(project / "index") as index:
        done = install(project, f"[global]\nindex-url = {index}\n")
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (project / "venv/bin/uv").exists()


def told(project: Path) -> str:
    """What the last installation told uv: the index, more indexes, trusted hosts."""
    return (project / "venv/bin/settings.txt").read_text().removesuffix("\n")
