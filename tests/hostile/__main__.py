"""``python -m tests.hostile``: attack a server, send mutated requests, decode mutated pictures."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from tempfile import mkdtemp

import click

from tests.faults.databases import database
from tests.hostile import requests
from tests.hostile.attacks import ATTACKS
from tests.hostile.siege import siege
from tests.hostile.verdict import broken, figures, slow
from tests.running import models_directory

seed_option = click.option("--seed", type=int, help="Repeats the choices of an earlier run. [default: a new one]")
database_option = click.option(
    "--database", "url", default="sqlite", show_default=True, help="sqlite, postgresql (one of its own), or a URL."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Be hostile to a server of its own, and look at what honest clients see meanwhile."""


@main.command()
@click.option("--seconds", type=float, default=5.0, show_default=True, help="How long each attack lasts.")
@click.option("--attack", "names", multiple=True, type=click.Choice(list(ATTACKS)), help="Only these; repeat it.")
@seed_option
def attack(seconds: float, names: tuple[str, ...], seed: int | None) -> None:
    """Attack a server in each way by itself, then in all ways at once, and judge what honest clients saw."""
    chosen, folder, bad = _chosen(seed), _folder(), 0
    with siege(models_directory(), folder) as besieged:
        click.echo(f"seed {chosen}, folder {folder}, {besieged.rest_mb:.0f} MB at rest")
        rounds = [[name] for name in names or ATTACKS]
        for names_of_round in [*rounds, list(names or ATTACKS)] if len(rounds) > 1 else rounds:
            before = besieged.rest(max(3.0, seconds / 2))
            seen, sent = besieged.attack(names_of_round, seconds, before, str(chosen))
            complaints = [*broken(seen), *slow(seen)]
            bad += len(complaints)
            title = names_of_round[0] if len(names_of_round) == 1 else "all at once"
            click.echo(f"{title}: {figures(seen, sent)}")
            for complaint in complaints:
                click.echo(f"    {complaint}")
            if seen.ended:
                break
    sys.exit(1 if bad else 0)


@main.command(name="requests")
@click.option("--count", type=int, default=100_000, show_default=True, help="How many requests.")
@seed_option
@click.option("--processes", type=int, default=1, show_default=True, help="How many processes send.")
@database_option
def send_requests(count: int, seed: int | None, processes: int, url: str) -> None:
    """Send mutated requests to all routes of both ports, and judge the answers."""
    chosen, folder = _chosen(seed), _folder()
    with database(url) as where:
        outcome = requests.run(
            models_directory(),
            folder,
            count,
            chosen,
            processes,
            options=["--database", where.url] if where.url else [],
            progress=_tell,
        )
    click.echo(f"\n{outcome.table()}\nseed {chosen}, folder {folder}")
    if outcome.failures:
        click.echo(f"python -m tests.hostile replay {folder / 'wrong-0.json'}")
    sys.exit(1 if outcome.complaints else 0)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def replay(file: Path) -> None:
    """Send a saved request again, with all that was sent before it on its connection."""
    for line in requests.replay(file, models_directory(), _folder()):
        click.echo(line)


def _chosen(seed: int | None) -> int:
    return secrets.randbelow(1 << 32) if seed is None else seed


def _folder() -> Path:
    return Path(mkdtemp(prefix="tierserve-hostile-"))


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{line:<78}", err=True, nl=False)


if __name__ == "__main__":
    main(prog_name="python -m tests.hostile")
