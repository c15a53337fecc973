"""A base image made of Debian packages: a Debian mirror is enough, where no image can be pulled."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.cluster.shell import ClusterError, Say, locked, run, search_path

NAME = "localhost/tierserve-base:bookworm"
SUITE = "bookworm"
PACKAGES = "ca-certificates,python3,python3-venv"
REMOVED = ["usr/share/doc", "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/man"]
EMPTIED = ["var/cache", "var/lib/apt/lists", "var/log"]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tierserve" / "images"
BUILD_SECONDS = 3600.0
NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")  # if an image has both, the first one counts
PRIVATE = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
"""The words before a command whose processes and mounts must end with this process, even if it is killed."""
PHASES = re.compile(r"I: (?:Retrieving InRelease|Checking component|Installing core|Configuring python3$|Base system)")


def base_image(say: Say = lambda line: None) -> Path:
    """The base image as an OCI archive. The first call makes it within a minute; later ones find it in the cache."""
    require_tools()
    recipe = repr((SUITE, PACKAGES, REMOVED, EMPTIED))
    archive = CACHE / f"base-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.tar"
    with locked(CACHE / "base.lock", say):
        if not archive.exists():
            _make(archive, say)
    return archive


def require_tools() -> None:
    """Raise ``ClusterError`` if images cannot be built here."""
    if os.geteuid() != 0:
        raise ClusterError("building images needs root: sudo make images")
    needed = ("buildah", "debootstrap")
    if absent := [command for command in needed if shutil.which(command, path=search_path()) is None]:
        raise ClusterError(f"no {', '.join(absent)} here: sudo apt-get install {' '.join(absent)}")


def _make(archive: Path, say: Say) -> None:
    began = time.monotonic()
    say(f"base: making Debian {SUITE} with Python")
    for rest in CACHE.glob("base-*/"):  # left by a build that was killed
        shutil.rmtree(rest)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="base-") as name:
        folder = Path(name)
        root = folder / "root"
        argv = [*PRIVATE, "debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), _mirror()]
        follow(argv, CACHE / "base.log", lambda line: say(f"base: {line[3:]}") if PHASES.match(line) else None)
        for path in REMOVED:
            shutil.rmtree(root / path)
        for path in EMPTIED:
            for file in (root / path).rglob("*"):
                if not file.is_dir():
                    file.unlink()
        run("tar", "-C", root, "-cf", folder / "root.tar", ".", timeout=300)
        (folder / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
        storage = folder / "storage"
        follow([*buildah(storage, "bud"), "--tag", NAME, folder], CACHE / "base.log", lambda line: None)
        export(storage, NAME, archive)
    say(f"base: made in {time.monotonic() - began:.0f} s")


def _mirror() -> str:
    """The Debian mirror that this machine's own apt uses."""
    layout = "$(RELEASE) $(COMPONENT) $(REPO_URI)"
    for line in run("apt-get", "indextargets", "--format", layout, "Created-By: Packages").splitlines():
        release, component, address = line.split()
        if (release, component) == (SUITE, "main"):
            return address
    raise ClusterError(
        f"apt has no mirror of Debian {SUITE} here; build on another base: "
        "make images ARGS='--base NAME', with any image that has Python 3.11"
    )


def buildah(storage: Path, command: str) -> list[str]:
    """The first words of a buildah command that works on its own storage."""
    places = ["--root", str(storage / "root"), "--runroot", str(storage / "run"), "--storage-driver", "overlay"]
    return [*PRIVATE, "buildah", *places, command]


def export(storage: Path, image: str, archive: Path) -> None:
    """Write an image from a storage into an OCI archive."""
    part = storage.with_suffix(".part")
    part.unlink(missing_ok=True)
    run(*buildah(storage, "push"), "--quiet", image, f"oci-archive:{part}:{image}", timeout=BUILD_SECONDS)
    part.rename(archive)  # so that an archive under this name is always complete


def contents(archive: Path) -> dict[str, str]:
    """The images of an OCI archive: by the name that each has on a node, its digest."""
    with tarfile.open(archive) as file:
        index = file.extractfile("index.json")
        assert index is not None  # None would mean that it is a folder
        entries = json.load(index)["manifests"]
    return {
        next(entry["annotations"][key] for key in NAMES if key in entry["annotations"]): entry["digest"]
        for entry in entries
    }


def follow(argv: Sequence[str | Path], log: Path, each: Callable[[str], None]) -> None:
    """Run a long command. Each line of its output goes to ``log`` and to ``each``. Raises ``ClusterError``."""
    words, env = [str(word) for word in argv], os.environ | {"PATH": search_path()}
    with (
        log.open("w") as file,
        subprocess.Popen(
            words,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        ) as process,
    ):
        timer = threading.Timer(BUILD_SECONDS, _end, [process])
        timer.start()
        try:
            for line in process.stdout or ():
                file.write(line)
                file.flush()
                each(line.rstrip())
            status = process.wait()
        finally:
            timer.cancel()
            _end(process)
    if status:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        raise ClusterError(f"{' '.join(words)} ended with {status}; all of its output is in {log}:\n{tail}")


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
