"""The commands of ``tierserve`` that ask a server, for people."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from tierserve.console import Target

STATE = Path(".tierserve")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
url_option = click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="URL of the server.")
key_option = click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the key to send. [default: the key in the environment's TIERSERVE_KEY, if there is one]",
)


def fail(sentence: str) -> NoReturn:
    """End the command with this sentence."""
    raise click.ClickException(sentence)


@contextmanager
def _asking(url: str, key_file: Path | None) -> Iterator[Target]:
    """The server to ask, with the key. What goes wrong meanwhile ends the command with a sentence."""
    from tierserve.console import Target
    from tierserve.errors import TierserveError

    try:
        yield Target(url, _key(key_file))
    except TierserveError as error:
        fail(str(error))


def _key(file: Path | None) -> str:
    """The key to send; empty if none was given."""
    text, where = os.environ.get("TIERSERVE_KEY", ""), "TIERSERVE_KEY in the environment"
    if file is not None:
        try:
            text, where = file.read_text(), str(file)
        except (OSError, ValueError) as error:
            fail(f"{file} cannot be read as text: {error}")
    key = text.strip()
    if (file is not None or key) and not re.fullmatch(r"tsk_[0-9A-Za-z_]{1,200}", key):
        fail(f"{where} is not a key, which looks like tsk_ID_SECRET; tierserve keys create prints one")
    return key


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tier", default="free", show_default=True)
@click.option("--top-k", type=click.IntRange(1, 100), default=3, show_default=True, help="Labels per picture.")
@click.option(
    "--at-once", type=click.IntRange(1, 64), default=8, show_default=True, help="Most requests at the same time."
)
@json_option
@url_option
@key_option
def classify(
    files: tuple[Path, ...], tier: str, top_k: int, at_once: int, as_json: bool, url: str, key_file: Path | None
) -> None:
    """Classify the pictures FILES and print their labels. The exit status is 1 when one could not be classified.

    Until then a terminal shows where each picture stands: its place in the queue and why it waits, or its label.
    """
    from tierserve import console

    with _asking(url, key_file) as target:
        sys.exit(1 if console.classify(target, tier, files, top_k, at_once, as_json) else 0)


@click.command()
@json_option
@url_option
@key_option
def tiers(as_json: bool, url: str, key_file: Path | None) -> None:
    """Print the state of a server's tiers: waiting predictions, workers, room for more, and why predictions wait."""
    from tierserve import console

    with _asking(url, key_file) as target:
        console.tiers(target, as_json)


@click.command()
@click.option("--tier", help="Only those of this tier.")
@click.option("--status", help="Only those that are queued, leased, succeeded, failed, canceled, expired or aborted.")
@click.option("--since", metavar="TIME", help="Only those accepted at 2030-01-31T12:00:00Z, or later.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Most predictions.")
@json_option
@url_option
@key_option
def predictions(
    tier: str | None,
    status: str | None,
    since: str | None,
    limit: int,
    as_json: bool,
    url: str,
    key_file: Path | None,
) -> None:
    """Print the predictions of the owner of the key, the newest first."""
    from tierserve import console

    asked = {"tier": tier, "status": status, "since": since}
    with _asking(url, key_file) as target:
        console.predictions(target, limit, {name: given for name, given in asked.items() if given}, as_json)
