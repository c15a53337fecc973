"""``python -m tests.faults``: list the faults, inject them at random, kill servers in bulk, judge saved histories."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import click

from tests.faults import catalogue
from tests.faults.checker import check
from tests.faults.databases import database
from tests.faults.faults import FAULTS
from tests.faults.history import read
from tests.faults.kills import kills as run_kills
from tests.faults.lending import BETWEEN_FAULTS
from tests.faults.mixed import Manner
from tests.faults.mixed import run as run_mixed
from tests.running import models_directory

PROGRESS_SECONDS = 1.0

seed_option = click.option("--seed", type=int, help="Repeats the choices of an earlier run. [default: a new one]")
database_option = click.option(
    "--database", "url", default="sqlite", show_default=True, help="sqlite, postgresql (one of its own), or a URL."
)
folder_option = click.option(
    "--folder", type=click.Path(path_type=Path), help="Where history and logs go. [default: a new one in /tmp]"
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Inject faults into real servers, and judge the histories that their clients wrote."""


@main.command(name="list")
def list_rows() -> None:
    """List every fault with its tests, or with the reason why there is none."""
    click.echo(catalogue.table())


@main.command(name="check")
@click.argument("histories", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def check_histories(histories: tuple[Path, ...]) -> None:
    """Judge saved histories again, for instance by changed rules."""
    found = [(path, violation) for path in histories for violation in check(read(path))]
    for path, violation in found:
        click.echo(f"{path}: {violation}")
    click.echo(f"{len(found)} violations in {len(histories)} histories")
    sys.exit(1 if found else 0)


@main.command()
@click.option("--seconds", type=float, default=60.0, show_default=True, help="How long faults are injected.")
@click.option("--fault", "names", multiple=True, type=click.Choice(list(FAULTS)), help="Only these; repeat it.")
@click.option("--lending", is_flag=True, help="Two tiers lend each other quota, and nobody changes the model.")
@seed_option
@database_option
@folder_option
def run(seconds: float, names: tuple[str, ...], lending: bool, seed: int | None, url: str, folder: Path | None) -> None:
    """Let clients and workers work while faults are injected at random."""
    chosen, place = _chosen(seed), _place(folder)
    with database(url) as where:
        manner = Manner(BETWEEN_FAULTS, lending=True) if lending else Manner()
        kinds = names or tuple(FAULTS)
        figures = run_mixed(place, models_directory(), seconds, chosen, where, kinds, _progress(), manner)
    _end(figures.table(), place, bool(figures.violations))


@main.command()
@click.option("--count", type=int, default=300, show_default=True, help="How many lives.")
@click.option("--life", "seconds", type=float, default=0.0, help="Lives of about so many seconds, with more clients.")
@seed_option
@database_option
@folder_option
def kills(count: int, seconds: float, seed: int | None, url: str, folder: Path | None) -> None:
    """Start a server many times on the same data, and kill it each time, at a named point or at any moment."""
    chosen, place = _chosen(seed), _place(folder)
    with database(url) as where:
        figures = run_kills(place, models_directory(), count, chosen, where, life_seconds=seconds, progress=_progress())
    _end(figures.table(), place, bool(figures.violations))


def _chosen(seed: int | None) -> int:
    return secrets.randbelow(1 << 32) if seed is None else seed


def _place(folder: Path | None) -> Path:
    if folder is None:
        return Path(mkdtemp(prefix="tierserve-faults-"))
    folder.mkdir(parents=True)
    return folder


def _progress() -> Callable[[str], None]:
    """Progress on standard error: one line that is overwritten, or on no terminal a new line from time to time."""
    terminal, told = sys.stderr.isatty(), [time.monotonic()]

    def tell(line: str) -> None:
        now = time.monotonic()
        if now - told[0] >= (PROGRESS_SECONDS if terminal else 30 * PROGRESS_SECONDS):
            told[0] = now
            click.echo(f"\r{line:<78}" if terminal else line, err=True, nl=not terminal)

    return tell


def _end(table: str, place: Path, bad: bool) -> None:
    click.echo(f"\n{table}\nhistory: {place / 'history.jsonl'}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main(prog_name="python -m tests.faults")
