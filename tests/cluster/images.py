"""The project's images, built from its Dockerfile by buildah: ``python -m tests.cluster.images --help``."""

from __future__ import annotations

import ast
import hashlib
import re
import shutil
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import click

from tests.cluster import base
from tests.cluster.base import CACHE
from tests.cluster.shell import ROOT, ClusterError, Say, locked, run
from tests.running import models_directory

DEFAULT = ["server", "worker"]
TARGETS = [*DEFAULT, "worker-timm"]
VERSION = "0.1.0"
LAYERS = CACHE / "layers"
CERTIFICATES = "/etc/ssl/certs"
INDEX_SETTINGS = {"index-url", "extra-index-url", "trusted-host", "timeout"}
UNUSED_SECONDS = 3600
LAYERS_BYTES = 8_000_000_000
STEP = re.compile(r"(\[\d+/\d+\] )?STEP \d+/\d+: (FROM|RUN|COPY)")


def image_name(target: str) -> str:
    """The name of an image on a node."""
    return f"{repository(target)}:{VERSION}"


def repository(target: str) -> str:
    """The name of an image without its tag."""
    return f"localhost/tierserve-{target}"


def build(
    target: str,
    models: Path | None = None,
    base_name: str | None = None,
    say: Say = lambda line: None,
    *,
    build_models: bool = False,
) -> Path:
    """Build the image of a Dockerfile target if it is not built yet, and return its OCI archive.

    ``models`` holds model directories (default: those of ``make models``); with ``build_models`` the build gets none,
    and makes the default models itself. ``base_name`` is another base image, which buildah pulls. Raises
    ``ClusterError`` if the image cannot be built.
    """
    base.require_tools()
    given = None if build_models else models or models_directory()
    if given and not list(given.glob("*/model.json")):
        raise ClusterError(f"there is no model in {given}; make the default ones with: make models")
    bottom = base.base_image(say) if base_name is None else None
    key = _key(target, given, base_name or str(bottom))
    archive = CACHE / f"{target}-{key}.tar"
    with locked(CACHE / "layers.lock", say):  # one for all targets, because they have layers in common
        if not archive.exists():
            if bottom:
                run(*base.buildah(LAYERS, "pull"), "--quiet", f"oci-archive:{bottom}", timeout=300)
            _build(target, given, base_name or base.NAME, say)
            base.export(LAYERS, image_name(target), archive)
            for other in CACHE.glob(f"{target}-{'?' * 12}.tar"):
                if other.stat().st_mtime < time.time() - UNUSED_SECONDS:
                    other.unlink()
            _trim(LAYERS)
        archive.touch()  # marked as used, so that another checkout's build does not delete it before it is on a node
    return archive


def size(archive: Path) -> int:
    """The bytes of an image's unpacked layers, as `docker images` shows them."""
    with tarfile.open(archive) as file:
        return sum(_unpacked(file, member) for member in file if member.size > 0 and member.name.startswith("blobs/"))


def _build(target: str, models: Path | None, base_name: str, say: Say) -> None:
    began = time.monotonic()
    with tempfile.NamedTemporaryFile("w", prefix="pip-") as settings:
        settings.write(_pip_settings())
        settings.flush()
        argv = [*base.buildah(LAYERS, "bud"), "--isolation", "chroot", "--network", "host", "--no-hosts"]
        argv += ["--layers", "--target", target]
        argv += ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro", "--secret", f"id=pip,src={settings.name}"]
        argv += ["--build-arg", f"BASE_IMAGE={base_name}"]
        argv += ["--build-context", f"models={models.absolute()}"] if models else []
        steps = lambda line: say(f"{target}: {line[:100]}") if STEP.match(line) else None  # noqa: E731
        base.follow([*argv, "--tag", image_name(target), str(ROOT)], CACHE / f"{target}.log", steps)
    say(f"{target}: built in {time.monotonic() - began:.0f} s")


def _key(target: str, models: Path | None, bottom: str) -> str:
    """A hash of what an image is made of: the files that .dockerignore lets in, the models and the base image."""
    digest = hashlib.sha256(f"{target} {bottom}".encode())
    for path in _context():
        digest.update(f"{path.relative_to(ROOT)} {path.stat().st_size}\n".encode() + path.read_bytes())
    for record in sorted(models.glob("*/model.json") if models else ()):  # it contains the checksums of the other files
        digest.update(record.parent.name.encode() + record.read_bytes())
    return digest.hexdigest()[:12]


def _context() -> Iterator[Path]:
    yield ROOT / "Dockerfile"
    yield ROOT / ".dockerignore"
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            path = ROOT / line[1:]
            files = [path] if path.is_file() else sorted(path.rglob("*"))
            yield from (file for file in files if file.is_file() and "__pycache__" not in file.parts)


def _pip_settings() -> str:
    """Where this machine's pip finds packages. The build sees it as a secret, so that no layer contains it."""
    lines = ["[global]"]
    for line in run(sys.executable, "-m", "pip", "config", "list").splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in INDEX_SETTINGS:
            lines.append(f"{key} = {ast.literal_eval(value)}")
    return "\n".join(lines) + "\n"


def _trim(layers: Path) -> None:
    """Delete the layers of former builds, which serve as a cache, when they take too much space."""
    if sum(path.lstat().st_blocks * 512 for path in layers.rglob("*")) > LAYERS_BYTES:
        rest = layers.with_suffix(".old")  # renamed first: a half-deleted cache must not be used
        shutil.rmtree(rest, ignore_errors=True)
        layers.rename(rest)
        shutil.rmtree(rest)


def _unpacked(archive: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    blob = archive.extractfile(member)
    if blob is None or blob.read(2) != b"\x1f\x8b":
        return 0
    blob.seek(0)
    unzip, total = zlib.decompressobj(wbits=31), 0
    while chunk := blob.read(1 << 20):
        total += len(unzip.decompress(chunk))
    return total


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--target", "targets", multiple=True, type=click.Choice(TARGETS), help="Repeat it. [default: server, worker]"
)
@click.option(
    "--models",
    type=click.Path(file_okay=False, path_type=Path),
    help="Model directories. [default: those of make models]",
)
@click.option("--build-models", is_flag=True, help="Have the build make the default models, and take none of --models.")
@click.option("--base", "base_name", help="An image with Python 3.11. [default: one made of Debian packages]")
def main(targets: tuple[str, ...], models: Path | None, build_models: bool, base_name: str | None) -> None:
    """Build the project's images, and print their unpacked sizes and where their archives are."""
    try:
        for target in targets or DEFAULT:
            say = lambda line: click.echo(line, err=True)  # noqa: E731
            archive = build(target, models, base_name, say, build_models=build_models)
            click.echo(f"{image_name(target)}  {size(archive) / 1e6:.0f} MB  {archive}")
    except ClusterError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
