"""The commands of ``tierserve`` that ask a server: for people, and for operators of keys."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

STATE = Path(".tierserve")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
url_option = click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="URL of the server.")


def fail(sentence: str) -> NoReturn:
    """End the command with this sentence."""
    raise click.ClickException(sentence)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tier", default="free", show_default=True)
@click.option("--top-k", type=click.IntRange(1, 100), default=3, show_default=True, help="Labels per picture.")
@click.option(
    "--at-once", type=click.IntRange(1, 64), default=8, show_default=True, help="Most requests at the same time."
)
@json_option
@url_option
def classify(files: tuple[Path, ...], tier: str, top_k: int, at_once: int, as_json: bool, url: str) -> None:
    """Classify the pictures FILES and print their labels. The exit status is 1 when one could not be classified."""
    from client import console
    from client.client import ClientError

    try:
        sys.exit(1 if console.classify(url, tier, files, top_k, at_once, as_json) else 0)
    except ClientError as error:
        fail(str(error))


@click.command()
@json_option
@url_option
def tiers(as_json: bool, url: str) -> None:
    """Print the state of a server's tiers: waiting predictions, workers, room for more, and why predictions wait."""
    from client import console
    from client.client import ClientError

    try:
        console.tiers(url, as_json)
    except ClientError as error:
        fail(str(error))
