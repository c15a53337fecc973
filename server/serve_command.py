"""The command ``tierserve serve``, and what it sets up in its process: logs and memory."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from server.commands import STATE, fail
from server.redaction import RedactingFormatter, redacted
from server.settings_commands import Flags, read_from, settings_options
from server.shipped import PICTURE

if TYPE_CHECKING:
    from server.app import Server

# New objects after which Python looks for cycles. Its default of 700 is reached within a single request.
YOUNG_OBJECTS = 10_000
# glibc's malloc.h; and from which size an object has memory of its own, and how much free memory is kept at most.
MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_THRESHOLD = -1, -3
MAPPED_BYTES, KEPT_BYTES = 1024 * 1024, 4 * 1024 * 1024


@click.command()
@settings_options
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default=STATE,
    show_default=True,
    help="Folder for data and logs.",
)
@click.option(
    "--models",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the model directories. [default: STATE/models]",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "kubernetes"]),
    default="local",
    show_default=True,
    help="Run workers as subprocesses, or as Jobs in this pod's cluster or in the one that KUBECONFIG names.",
)
@click.option(
    "--database",
    "database_url",
    default="",
    envvar="TIERSERVE_DATABASE_URL",
    help="postgresql://USER:PASSWORD@HOST/NAME instead of a SQLite file; as a secret, it is safer in the environment.",
)
@click.option(
    "--blobs",
    "blobs_url",
    default="",
    envvar="TIERSERVE_BLOBS_URL",
    help="Where to store pictures: a folder, s3://BUCKET/PREFIX, gs://... or az://... [default: STATE/data/blobs]",
)
@click.option(
    "--internal-url", help="URL at which workers in the cluster reach the internal port; with --engine kubernetes."
)
@click.option(
    "--pepper-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with what keys are made with, the same for all servers of a database. [default: STATE/pepper]",
)
@click.option(
    "--admin-token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the token for tierserve keys and model. [default: STATE/admin-token]",
)
@click.option(
    "--keys-file",
    type=click.Path(path_type=Path),
    help="File of hashed keys, or folder of such files (*.yaml), that is read again when it changes.",
)
@click.option("--merged", is_flag=True, help="The values are complete: do not merge them into the default values.")
def serve(
    files: Sequence[Path],
    flags: Flags,
    templates: Path,
    state: Path,
    models: Path | None,
    engine: str,
    database_url: str,
    blobs_url: str,
    internal_url: str | None,
    pepper_file: Path | None,
    admin_token_file: Path | None,
    keys_file: Path | None,
    merged: bool,
) -> None:
    """Serve until SIGTERM or Ctrl-C. Changes of values and templates take effect while the server runs."""
    if (engine == "kubernetes") != (internal_url is not None):
        fail("--engine kubernetes and --internal-url go together: --internal-url http://HOST:PORT, as workers see it")
    # Imports stand in the commands that need them, because to import the server takes longer than most commands run.
    from concurrent.futures import ThreadPoolExecutor

    from server.settings.kept import Kept
    from server.settings.live import Live
    from server.settings.sources import ConfigError

    read = read_from(files, flags, templates, merged=merged)
    _log_to_stderr(database_url, blobs_url)
    pool = ThreadPoolExecutor(1, "settings")
    judged = pool.submit(Live, read, Kept(state / "settings.json", read))  # beside the imports, by another process
    pool.shutdown(wait=False)
    gc.disable()  # imports leave 600 objects behind that nothing needs; to look for them takes a tenth of a second
    try:
        import uvloop

        from server.app import Access, CannotServe, Server, cluster_workers, local_workers, serve
        from server.blobs import BlobsUnusable
        from server.queue import CannotOpen
        from server.storage import Storage
    finally:
        gc.freeze()
        gc.enable()
    try:
        live = judged.result()
        if internal_url is not None:
            workers, ready = cluster_workers(live, internal_url, models or _image_models()), _log_ready
        else:
            workers, ready = local_workers(state, models or state / "models"), _greet
        access = Access.from_files(state, pepper_file, admin_token_file, keys_file)
        server = Server(live, Storage(state / "data", database_url, blobs_url), workers, access)
        _rarely_collect()
        _return_memory()
        _tell_url(state, server)
        uvloop.run(serve(server, ready))
    except (ConfigError, CannotServe, CannotOpen, BlobsUnusable) as error:
        fail(redacted(str(error), database_url, blobs_url))


def _image_models() -> Path | None:
    """Where the server's image has the records of the models that the workers' image has."""
    folder = os.environ.get("TIERSERVE_MODELS", "")
    return Path(folder) if folder else None


def _tell_url(state: Path, server: Server) -> None:
    """Say on this machine where the operators' routes are. A state folder that cannot be written is no obstacle."""
    from server.access.operators import tell_url

    try:
        tell_url(state, server.internal_url)
    except OSError as error:
        logging.getLogger("server").info("tierserve keys and model need --url here: %s", error)


def _log_to_stderr(*urls: str) -> None:
    """Log without the secrets of these URLs, also the traceback of an error that ends the process or a thread."""
    from server.logs import Throttle, unbounded

    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Throttle())
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(message)s", *urls))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    unbounded("server.http.access")
    logging.getLogger("tornado").setLevel(logging.WARNING)  # below that, it has a line for every broken request
    log = logging.getLogger("server")
    sys.excepthook = lambda kind, error, at: log.critical("the server ends", exc_info=(kind, error, at))
    threading.excepthook = lambda ended: log.critical(
        "thread %s ended", ended.thread and ended.thread.name, exc_info=ended.exc_value
    )


def _return_memory() -> None:
    """Have glibc give the memory of freed pictures back to the system, and move a large one instead of copying it.

    By default it does so only until the first large picture is freed. Then it keeps them, in pieces that fit no other.
    """
    import ctypes

    with suppress(OSError, AttributeError):  # other C libraries have no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MALLOPT_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(MALLOPT_TRIM_THRESHOLD, KEPT_BYTES)


def _rarely_collect() -> None:
    """Make garbage collections rare and cheap: what is there stays and needs no visit, and requests make few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)


def _log_ready(server: Server) -> None:
    logging.getLogger("server").info("taking pictures at %s; tiers: %s", server.url, ", ".join(server.settings.tiers))


def _greet(server: Server) -> None:
    tiers = list(server.settings.tiers)
    sample = PICTURE.relative_to(Path.cwd()) if PICTURE.is_relative_to(Path.cwd()) else PICTURE
    click.echo(f"tierserve takes pictures at {server.url}  (tiers: {', '.join(tiers)}; Ctrl-C ends it)\n")
    click.echo("Drop a picture on that page in a browser, or send one:\n")
    click.echo(f"  curl --data-binary @{sample} {server.url}/img-classification/{tiers[0]}\n")
