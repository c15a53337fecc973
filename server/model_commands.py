"""The commands ``tierserve model``: operators push models into a server's store, and builders make them."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

from server.commands import INTERRUPTED, fail, interrupt, json_option
from server.operator_options import asking, server_options

if TYPE_CHECKING:
    from tierserve.models import Models

Command = TypeVar("Command", bound=Callable[..., None])

FOLDER = click.Path(file_okay=False, path_type=Path)
_PASSED_ON = {"ignore_unknown_options": True, "help_option_names": []}

folder_option = click.option(
    "--models", type=FOLDER, help="Ask no server: take the models that were built into this folder."
)


@contextmanager
def _asking(state: Path, url: str | None, admin_token_file: Path | None) -> Iterator[Models]:
    from tierserve.models import Models

    with asking(Models, state, url, admin_token_file) as models:
        yield models


def _run(*words: str) -> NoReturn:
    """Become ``python -m model``: the server never imports what runs models."""
    # -P: no folder `model` of the caller's.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "model", *words])  # noqa: S606


def _need(what: str, extras: str, *modules: str) -> None:
    """End the command unless these are there. An image of the server has no package ``model`` at all."""
    if any(importlib.util.find_spec(module) is None for module in ("model", *modules)):
        fail(f"this installation has no {what}; install it with: pip install 'tierserve[{extras}]'")


def _need_builder() -> None:
    _need("builder of models", "worker,build", "model.build", "numpy", "onnx")


def _need_folders() -> None:
    _need("reader of models", "worker", "model.build", "numpy")


@click.group()
def model() -> None:
    """Build models, push them into a server's store, list, tag and remove them, and roll tiers back."""


@model.command(context_settings=_PASSED_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def build(arguments: tuple[str, ...]) -> None:
    """Make a model from a checkpoint or from timm: tierserve model build --help."""
    _need_builder()
    _run("build", *arguments)


@model.command(context_settings=_PASSED_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def work(arguments: tuple[str, ...]) -> None:
    """Work for a server, as its Jobs do: tierserve model work --help."""
    _need("runtime of models", "worker", "numpy")
    _run("work", *arguments)


@model.command()
@click.argument("directory", metavar="DIR", type=FOLDER)
@click.option("--tag", "tags", multiple=True, help="Also call it NAME@TAG; can be repeated.")
@click.option(
    "--try",
    "only",
    multiple=True,
    metavar="RUNTIME/VARIANT",
    help="Try only this variant on this machine, such as onnx/int8; can be repeated. [default: all]",
)
@json_option
@server_options
def push(
    directory: Path,
    tags: tuple[str, ...],
    only: tuple[str, ...],
    as_json: bool,
    state: Path,
    url: str | None,
    admin_token_file: Path | None,
) -> None:
    """Check the model in the folder DIR, try it, and put it into the store of a server, whole or not at all."""
    _need("runtime of models, with which a push tries them", "worker", "numpy")
    from tierserve.models import show_pushed

    signal.signal(signal.SIGTERM, interrupt)  # so that the trials end, too
    with _asking(state, url, admin_token_file) as models:
        try:
            pushed = models.push(directory, tags, only)
        except KeyboardInterrupt:
            click.echo("stopped: a model that tierserve model list does not show cannot be used", err=True)
            sys.exit(INTERRUPTED)
        show_pushed(pushed, tags, as_json)


@model.command()
@click.argument("reference")
@click.argument("folder", metavar="DIR", type=FOLDER)
@json_option
@server_options
def pull(
    reference: str, folder: Path, as_json: bool, state: Path, url: str | None, admin_token_file: Path | None
) -> None:
    """Download a model of the store into the folder of models DIR."""
    from tierserve.models import show_pulled

    signal.signal(signal.SIGTERM, interrupt)  # so that nothing unfinished is left
    with _asking(state, url, admin_token_file) as models:
        show_pulled(*models.pull(reference, folder), as_json)


@model.command("list")
@folder_option
@json_option
@server_options
def list_models(
    models: Path | None, as_json: bool, state: Path, url: str | None, admin_token_file: Path | None
) -> None:
    """Print the models of the store, or with --models those of a folder."""
    from tierserve.models import show_models

    if models is not None:
        if as_json:
            fail("--json is for the models of a server's store: leave out --models")
        _need_folders()
        _run("list", "--models", str(models))
    with _asking(state, url, admin_token_file) as store:
        show_models(store.models(), as_json)


@model.command()
@click.argument("reference")
@json_option
@server_options
def show(reference: str, as_json: bool, state: Path, url: str | None, admin_token_file: Path | None) -> None:
    """Print what is known of one model of the store: NAME@VERSION, NAME@TAG, or NAME for what was pushed last."""
    from tierserve.models import show_model

    with _asking(state, url, admin_token_file) as models:
        show_model(models.model(reference), as_json)


@model.command()
@click.argument("reference")
@click.argument("tag")
@folder_option
@json_option
@server_options
def tag(
    reference: str,
    tag: str,
    models: Path | None,
    as_json: bool,
    state: Path,
    url: str | None,
    admin_token_file: Path | None,
) -> None:
    """Call a model NAME@TAG from now on. Tiers whose model.name is that change to it by themselves."""
    from tierserve.models import show_tagged

    if models is not None:
        _need_folders()
        _run("tag", "--models", str(models), "--", reference, tag)
    with _asking(state, url, admin_token_file) as store:
        show_tagged(store.tag(reference, tag), tag, as_json)


@model.command("rm")
@click.argument("reference", metavar="NAME@VERSION")
@json_option
@server_options
def remove(reference: str, as_json: bool, state: Path, url: str | None, admin_token_file: Path | None) -> None:
    """Remove a model from the store, unless a tier uses it."""
    from tierserve.models import show_removed

    with _asking(state, url, admin_token_file) as models:
        show_removed(reference, models.remove(reference), as_json)


@model.command()
@click.argument("tier")
@click.option("--undo", is_flag=True, help="Serve again what the settings name.")
@json_option
@server_options
def rollback(tier: str, undo: bool, as_json: bool, state: Path, url: str | None, admin_token_file: Path | None) -> None:
    """Have TIER serve the model that it served before, until its settings name another one."""
    from tierserve.models import show_rolled_back

    with _asking(state, url, admin_token_file) as models:
        show_rolled_back(tier, models.rollback(tier, undo), as_json)
