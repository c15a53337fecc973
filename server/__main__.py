"""The command ``tierserve``, or ``python -m server``: it serves, checks and renders, and is a client for people."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from server import commands, key_commands, model_commands
from server.commands import STATE, fail
from server.redaction import RedactingFormatter, redacted
from server.settings.sources import DEFAULT_VALUES, TEMPLATES, ConfigError, Files

if TYPE_CHECKING:
    from server.app import Server
    from server.settings.blueprints import Blueprints, InForce

SAMPLE = "model/pictures/cat.jpg"
# New objects after which Python looks for cycles. Its default of 700 is reached within a single request.
YOUNG_OBJECTS = 10_000
# glibc's malloc.h; and from which size an object has memory of its own, and how much free memory is kept at most.
MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_THRESHOLD = -1, -3
MAPPED_BYTES, KEPT_BYTES = 1024 * 1024, 4 * 1024 * 1024

values_option = click.option(
    "--values",
    "files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"A values file to merge into {DEFAULT_VALUES.name}, as helm does.",
)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set one value, as in helm; can be repeated."
)


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. What it complains about may quote what was typed."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            vars(error)["message"] = redacted(error.message)  # its type forbids to assign it
            raise


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Serve image classification in tiers: predictions wait in a durable queue for workers that start when needed."""


for command in (commands.classify, commands.tiers, commands.predictions, key_commands.keys, model_commands.model):
    main.add_command(command)


def _judged(files: Path | None, overrides: tuple[str, ...]) -> InForce:
    from server.settings import apart

    try:
        return apart.judge(Files(files or DEFAULT_VALUES, overrides).read())
    except ConfigError as error:
        fail(str(error))


@main.command()
@values_option
@set_option
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
    "--templates",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=TEMPLATES,
    help="Folder of the Job templates. [default: jobtemplates]",
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
@click.option("--merged", is_flag=True, help="The values file is complete: do not merge it into the default values.")
def serve(
    files: Path | None,
    overrides: tuple[str, ...],
    state: Path,
    models: Path | None,
    templates: Path,
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
    import uvloop

    from server.app import Access, CannotServe, Server, cluster_workers, local_workers, serve
    from server.blobs import BlobsUnusable
    from server.queue import CannotOpen
    from server.settings.kept import Kept
    from server.settings.live import Live
    from server.storage import Storage

    read = Files(files or DEFAULT_VALUES, overrides, None if merged else DEFAULT_VALUES, templates)
    _log_to_stderr(database_url, blobs_url)
    try:
        live = Live(read, Kept(state / "settings.json", read))
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
    with suppress(OSError, AttributeError):  # other C libraries have no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MALLOPT_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(MALLOPT_TRIM_THRESHOLD, KEPT_BYTES)


def _rarely_collect() -> None:
    """Make garbage collections rare and cheap: imported modules need no visit, and requests make few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)


def _log_ready(server: Server) -> None:
    logging.getLogger("server").info("taking pictures at %s; tiers: %s", server.url, ", ".join(server.settings.tiers))


def _greet(server: Server) -> None:
    tiers = list(server.settings.tiers)
    click.echo(f"tierserve takes pictures at {server.url}  (tiers: {', '.join(tiers)}; Ctrl-C ends it)\n")
    click.echo("Drop a picture on that page in a browser, or send one:\n")
    click.echo(f"  curl --data-binary @{SAMPLE} {server.url}/img-classification/{tiers[0]}\n")


@main.command()
@values_option
@set_option
def check(files: Path | None, overrides: tuple[str, ...]) -> None:
    """Check values and templates; print file, line, JSON pointer and rule of each mistake."""
    judged = _judged(files, overrides)
    if broken := judged.blueprints.broken:
        fail("\n".join(str(finding) for findings in broken.values() for finding in findings))
    click.echo(f"values, schemas and the templates of {len(judged.settings.tiers)} tiers are right")


@main.command()
@click.argument("tier")
@values_option
@set_option
@click.option(
    "--diff",
    "other",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Print what differs from the Job that another values file gives.",
)
@click.option("--validate", is_flag=True, help="Print the result of each check instead of the Job.")
def render(tier: str, files: Path | None, overrides: tuple[str, ...], other: Path | None, validate: bool) -> None:
    """Print the manifest of TIER's Jobs; no cluster is needed."""
    from server.settings.render import RenderError, diff, dump

    blueprints = _with_tier(tier, files, overrides)
    try:
        if validate:
            verdicts = blueprints.tiers[tier].verdicts
            for verdict in verdicts:
                click.echo(f"{'ok  ' if verdict.ok else 'FAIL'} {verdict.step}")
                for finding in verdict.findings:
                    click.echo(f"     {finding}")
            sys.exit(0 if all(verdict.ok for verdict in verdicts) else 1)
        manifest = blueprints.job(tier)
        if other is None:
            click.echo(dump(manifest), nl=False)
        else:
            before = _with_tier(tier, other, ()).job(tier)
            click.echo(diff(before, manifest, str(other), str(files or DEFAULT_VALUES.name)), nl=False)
    except RenderError as error:
        fail(str(error))


def _with_tier(name: str, files: Path | None, overrides: tuple[str, ...]) -> Blueprints:
    judged = _judged(files, overrides)
    if name not in judged.settings.tiers:
        fail(f"there is no tier {name}; the tiers are {', '.join(judged.settings.tiers)}")
    return judged.blueprints


if __name__ == "__main__":
    main(prog_name="tierserve")
