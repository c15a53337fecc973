"""Unpacked images, and containers as a strict cluster runs them: read-only, without capabilities, without a network."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tests.cluster.images import build, image_name, size
from tests.cluster.shell import run

RUN_SECONDS = 60.0
ID = 10001


@dataclass(frozen=True, slots=True)
class Image:
    """An image on disk."""

    name: str
    root: Path
    """The folder with its unpacked files."""
    config: Mapping[str, Any]
    """Its configuration: User, Env, Entrypoint, Labels and more."""
    record: str
    """All of its metadata as text, with the history of its layers."""
    bytes: int
    """The size of its unpacked layers."""
    added: frozenset[str]
    """The paths of the files that the layers above the base add."""

    def files(self, *patterns: str) -> list[str]:
        """Paths inside the image that match a glob pattern."""
        return sorted(str(path.relative_to(self.root)) for pattern in patterns for path in self.root.glob(pattern))

    def run(self, *args: str, mounts: Mapping[str, Path] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in a container. ``mounts`` maps places inside to files of the host, which are read-only."""
        with tempfile.TemporaryDirectory(prefix="tierserve-container-") as name:
            folder = Path(name)
            (folder / "config.json").write_text(json.dumps(self._container(args, mounts or {})))
            runc = ["runc", "--root", str(folder / "state")]
            try:
                return subprocess.run(
                    [*runc, "run", "--bundle", name, folder.name],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=RUN_SECONDS,
                    check=False,
                )
            finally:
                # After a timeout the container still runs.
                subprocess.run([*runc, "delete", "--force", folder.name], capture_output=True, timeout=30, check=False)

    def _container(self, args: Sequence[str], mounts: Mapping[str, Path]) -> dict[str, Any]:
        user, group = map(int, self.config["User"].split(":"))
        binds = [
            {"destination": inside, "type": "bind", "source": str(outside), "options": ["bind", "ro"]}
            for inside, outside in mounts.items()
        ]
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": user, "gid": group},
                "args": list(args),
                "env": self.config["Env"],
                "cwd": self.config["WorkingDir"],
                "noNewPrivileges": True,
            },
            "root": {"path": str(self.root), "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "size=64k"]},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777", "size=64m"]},
                *binds,
            ],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]},
        }


@contextmanager
def unpacked(target: str, build_models: bool = False) -> Iterator[Image]:
    """The image of a Dockerfile target, unpacked while the block lasts. It is built if it is not there.

    With ``build_models`` the build makes the models that are in it.
    """
    archive = build(target, build_models=build_models)
    with tempfile.TemporaryDirectory(prefix="tierserve-image-") as name:
        folder, root = Path(name), Path(name) / "root"
        root.mkdir()
        run("tar", "-xf", archive, "-C", folder, timeout=300)
        manifest = _blob(folder, json.loads((folder / "index.json").read_text())["manifests"][0])
        record = _blob(folder, manifest["config"])
        brought = [_apply(_path(folder, layer), root) for layer in manifest["layers"]]
        added = frozenset(path for paths in brought[1:] for path in paths if not path.endswith("/"))
        yield Image(
            name=image_name(target),
            root=root,
            config=record["config"],
            record=json.dumps([manifest, record]),
            bytes=size(archive),
            added=added,
        )


def _apply(layer: Path, root: Path) -> list[str]:
    """Apply a layer: remove what it has whiteouts for, then add its files. Returns its paths."""
    listed = run("tar", "-tzf", layer, timeout=300).splitlines()
    for entry in map(PurePosixPath, listed):
        if entry.name == ".wh..wh..opq":
            for path in (root / entry.parent).iterdir():
                _remove(path)
        elif entry.name.startswith(".wh."):
            _remove(root / entry.parent / entry.name.removeprefix(".wh."))
    run("tar", "-xzpf", layer, "-C", root, "--numeric-owner", "--exclude=.wh.*", timeout=300)
    return listed


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _blob(folder: Path, description: Mapping[str, Any]) -> Any:
    return json.loads(_path(folder, description).read_text())


def _path(folder: Path, description: Mapping[str, Any]) -> Path:
    return folder / "blobs" / Path(*description["digest"].split(":"))
