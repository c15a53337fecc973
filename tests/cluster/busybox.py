"""An OCI archive with one static busybox under two names: the container that holds a pod's namespaces, and a shell."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

from tests.cluster.shell import run

PAUSE, BUSYBOX = "localhost/pause:1", "localhost/busybox:1"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
OCI = "application/vnd.oci.image"


def write_archive(busybox: Path, output: Path) -> None:
    """Write the archive with both images, for ``ctr images import``."""
    layer = _layer(busybox)
    with tarfile.open(output, "w") as archive:
        manifests = []
        for name, command in ((PAUSE, ["/bin/sleep", "2147483647"]), (BUSYBOX, ["/bin/sh"])):
            settings = {
                "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
                "os": "linux",
                "config": {"Env": ["PATH=/bin"], "Cmd": command, "WorkingDir": "/"},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
            manifest = {
                "schemaVersion": 2,
                "mediaType": f"{OCI}.manifest.v1+json",
                "config": _blob(archive, _json(settings), f"{OCI}.config.v1+json"),
                "layers": [_blob(archive, layer, f"{OCI}.layer.v1.tar")],
            }
            described = _blob(archive, _json(manifest), f"{OCI}.manifest.v1+json")
            manifests.append(described | {"annotations": {"io.containerd.image.name": name}})
        _add(archive, "index.json", _json({"schemaVersion": 2, "manifests": manifests}))
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))


def _layer(busybox: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            layer.addfile(entry)
        _add(layer, "bin/busybox", busybox.read_bytes(), 0o755)
        _add(layer, "etc/passwd", b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
        for applet in run(busybox, "--list").split():
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                layer.addfile(link)
    return buffer.getvalue()


def _blob(archive: tarfile.TarFile, content: bytes, media_type: str) -> dict[str, Any]:
    digest = _digest(content)
    name = f"blobs/{digest.replace(':', '/')}"
    if name not in archive.getnames():
        _add(archive, name, content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True).encode()
