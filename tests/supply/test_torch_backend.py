"""``UV_TORCH_BACKEND=cpu`` takes torch for CPUs, and every other package is compared with the lock as ever.

uv asks PyTorch's index for it. Here a proxy of this machine answers in its place.
"""

from __future__ import annotations

import hashlib
import http.server
import os
import ssl
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

ROOT = Path(__file__).parents[2]


class Index(http.server.BaseHTTPRequestHandler):
    """Of the wheels of the folder ``pypi``; to a proxy's client that wants ``host``, that of the folder ``cpu``."""

    protocol_version = "HTTP/1.1"
    base: Path
    wheels = "pypi"
    host = ""
    asked: list[str]

    def do_CONNECT(self) -> None:
        self.asked.append(self.path)
        if self.path != f"{self.host}:443":
            self._answer(502, b"", "text/plain")
            return
        self.send_response(200)
        self.end_headers()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.base / "cert.pem", self.base / "key.pem")
        inside = type("OfTorch", (type(self),), {"wheels": "cpu"})
        with context.wrap_socket(self.connection, server_side=True) as connection:
            inside(connection, self.client_address, self.server)
        self.close_connection = True

    def do_GET(self) -> None:
        folder, name = self.base / self.wheels, unquote(self.path).rstrip("/").rpartition("/")[2]
        if name.endswith(".whl"):
            self._answer(200, (folder / name).read_bytes(), "application/octet-stream")
        else:
            links = [f'<a href="/{quote(file.name)}">{file.name}</a>' for file in folder.glob(f"{name}-*.whl")]
            self._answer(200 if links else 404, "\n".join(links).encode(), "text/html")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def wheel(folder: Path, name: str, version: str, *needs: str) -> str:
    """Put a package into an index, and return its line of a lock."""
    file = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(f"{name}.py", f"# {version}")
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            f"Version: {version}",
            *(f"Requires-Dist: {n}" for n in needs),
        ]
        made.writestr(f"{about}/METADATA", "\n".join(lines) + "\n")
        made.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{about}/RECORD", f"{name}.py,,\n")
    return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


@contextmanager
def answering(**facts: object) -> Iterator[int]:
    """An index and proxy; its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Index,), facts)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Which host uv asks for torch for CPUs."""
    folder, asked = tmp_path_factory.mktemp("asking"), list[str]()
    venv.create(folder / "venv", symlinks=True, with_pip=False)
    uv = (
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--torch-backend",
        "cpu",
        "--python",
        "venv/bin/python",
        "torch",
    )
    with answering(base=folder, asked=asked) as port:
        subprocess.run(uv, cwd=folder, env=environment(folder, port, ""), capture_output=True, timeout=60, check=False)
    return asked[0].removesuffix(":443")


@pytest.fixture
def project(tmp_path: Path, host: str) -> Iterator[tuple[Path, int, list[str]]]:
    """A folder with a lock, tools and an empty environment; the port of an index and proxy, and which hosts it got."""
    for name in ("tools", "pypi", "cpu"):
        (tmp_path / name).mkdir()
    for tool in ("uv", "pip"):
        (tmp_path / "tools" / tool).symlink_to(Path(sys.executable).parent / tool)
    venv.create(tmp_path / "venv", symlinks=True, with_pip=False)
    pypi, cpu = tmp_path / "pypi", tmp_path / "cpu"
    lines = [
        wheel(pypi, "torch", "2.15.0", "triton"),
        wheel(pypi, "torchvision", "0.30.0", "torch==2.15.0"),
        wheel(pypi, "triton", "3.9.0"),
        wheel(pypi, "timm", "1.0.31", "torch", "torchvision"),
    ]
    (tmp_path / "requirements.lock").write_text("".join(lines))
    wheel(cpu, "torch", "2.15.0+cpu")
    wheel(cpu, "torch", "2.16.0+cpu")
    wheel(cpu, "torchvision", "0.30.0+cpu", "torch==2.15.0")
    words = (
        f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -subj /CN={host}"
    )
    subprocess.run(["openssl", *words.split()], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    asked: list[str] = []
    with answering(base=tmp_path, asked=asked, host=host) as port:
        (tmp_path / "host").write_text(host)
        yield tmp_path, port, asked


def environment(folder: Path, port: int, backend: str, host: str = "") -> dict[str, str]:
    """The variables of a process whose index and proxy is this one."""
    here = f"http://127.0.0.1:{port}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    settings = {
        "HTTPS_PROXY": here,
        "NO_PROXY": "127.0.0.1",
        "PIP_CONFIG_FILE": os.devnull,
        "UV_CACHE_DIR": str(folder / "cache"),
        "UV_DEFAULT_INDEX": here,
        "UV_HTTP_RETRIES": "0",
        "UV_INSECURE_HOST": host,
        "UV_TORCH_BACKEND": backend,
    }
    return {name: value for name, value in (kept | settings).items() if value}


def install(folder: Path, port: int, backend: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", ROOT / "docker" / "install.sh", "tools", "venv/bin/python", "timm"],
        cwd=folder,
        env=environment(folder, port, backend, (folder / "host").read_text()),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def installed(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix(".dist-info") for path in (folder / "venv").rglob("*.dist-info"))


CPU = ["timm-1.0.31", "torch-2.15.0+cpu", "torchvision-0.30.0+cpu"]


def test_torch_for_cpus_comes_in_the_versions_of_the_lock(project: tuple[Path, int, list[str]]) -> None:
    folder, port, _ = project
    done = install(folder, port, "cpu")
    assert done.returncode == 0, done.stderr
    assert installed(folder) == CPU
    # It is the version of the lock, so what is installed later leaves it there.
    done = install(folder, port)
    assert done.returncode == 0, done.stderr
    assert installed(folder) == CPU


def test_without_the_variable_nobody_asks_pytorchs_index(project: tuple[Path, int, list[str]]) -> None:
    folder, port, asked = project
    done = install(folder, port)
    assert done.returncode == 0, done.stderr
    assert installed(folder) == ["timm-1.0.31", "torch-2.15.0", "torchvision-0.30.0", "triton-3.9.0"]
    assert asked == []


@pytest.mark.parametrize(("backend", "changed"), [("cpu", "timm"), ("", "torch")])
def test_any_other_package_with_another_hash_is_refused(
    project: tuple[Path, int, list[str]], backend: str, changed: str
) -> None:
    folder, port, _ = project
    (version,) = (file.name.split("-")[1] for file in (folder / "pypi").glob(f"{changed}-*"))
    wheel(folder / "pypi", changed, version, "torch")
    done = install(folder, port, backend)
    assert done.returncode != 0
    assert f"Hash mismatch for `{changed}==" in done.stderr
    assert installed(folder) == []
