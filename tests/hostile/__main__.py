"""``python -m tests.hostile``: attack a server, send mutated requests, decode mutated pictures."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

import click

from tests.faults.databases import POSTGRESQL, SQLITE, database
from tests.hostile import requests
from tests.hostile.attacks import ATTACKS
from tests.hostile.siege import besiege, siege
from tests.postgres import programs
from tests.running import models_directory

ROUND_SECONDS = 5.0

seed_option = click.option("--seed", type=int, help="Repeats the choices of an earlier run. [default: a new one]")
database_option = click.option(
    "--database", "url", default="sqlite", show_default=True, help="sqlite, postgresql (one of its own), or a URL."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Be hostile to a server of its own, and look at what honest clients see meanwhile."""


@main.command(name="attack")
@click.option("--seconds", type=float, default=60.0, show_default=True, help="How long in all; half of it all at once.")
@click.option("--attack", "names", multiple=True, type=click.Choice(list(ATTACKS)), help="Only these; repeat it.")
@seed_option
def attack_server(seconds: float, names: tuple[str, ...], seed: int | None) -> None:
    """Attack a server in each way by itself, then in all ways at once, and judge what honest clients saw."""
    sys.exit(1 if _attack(seconds, names or tuple(ATTACKS), _chosen(seed)) else 0)


@main.command(name="requests")
@click.option("--count", type=int, default=100_000, show_default=True, help="How many requests.")
@seed_option
@click.option("--processes", type=int, default=1, show_default=True, help="How many processes send.")
@database_option
def send_requests(count: int, seed: int | None, processes: int, url: str) -> None:
    """Send mutated requests to all routes of both ports, and judge the answers."""
    sys.exit(1 if _send(count, _chosen(seed), processes, url) else 0)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def replay(file: Path) -> None:
    """Send a saved request again, with all that was sent before it on its connection."""
    for line in requests.replay(file, models_directory(), _folder()):
        click.echo(line)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def pictures(words: tuple[str, ...]) -> None:
    """Decode mutated pictures: takes the options of python -m tests.hostile.pictures."""
    sys.exit(_decode(words))


@main.command()
@click.option("--seconds", type=float, default=600.0, show_default=True, help="How long the server is attacked.")
@click.option("--count", type=int, default=100_000, show_default=True, help="How many requests, and how many pictures.")
@seed_option
def run(seconds: float, count: int, seed: int | None) -> None:
    """Do all of it: the attacks, mutated requests on each database, and mutated pictures."""
    chosen = _chosen(seed)
    bad = _attack(seconds, tuple(ATTACKS), chosen)
    for url in (SQLITE, POSTGRESQL) if programs() else (SQLITE,):
        bad += _send(count, chosen, 2, url)
    bad += _decode(["--count", str(count), "--seed", str(chosen)])
    sys.exit(1 if bad else 0)


def _attack(seconds: float, names: Sequence[str], seed: int) -> int:
    folder = _folder()
    alone = min(max(seconds / 2 / len(names), 1.0), ROUND_SECONDS)
    rounds = [([name], alone, max(1, round(seconds / 2 / len(names) / alone))) for name in names]
    if len(names) > 1:
        rounds.append((list(names), ROUND_SECONDS, max(1, round(seconds / 2 / ROUND_SECONDS))))
    wrong: list[str] = []
    with siege(models_directory(), folder) as besieged:
        click.echo(f"seed {seed}, folder {folder}, {besieged.rest_mb:.0f} MB at rest")
        for some, long, count in rounds:
            if not besieged.ended():
                wrong += besiege(besieged, some, long, count, str(seed), click.echo)
    click.echo("\n".join([f"{len(wrong)} times something was wrong with the server", *wrong]))
    return len(wrong)


def _send(count: int, seed: int, processes: int, url: str) -> int:
    folder = _folder()
    with database(url) as where:
        options = ["--database", where.url] if where.url else []
        outcome = requests.run(models_directory(), folder, count, seed, processes, options=options, progress=_tell)
    click.echo(f"\n{where.name}:\n{outcome.table()}\nseed {seed}, folder {folder}")
    if outcome.failures:
        click.echo(f"python -m tests.hostile replay {folder / 'wrong-0.json'}")
    return len(outcome.complaints)


def _decode(words: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", "tests.hostile.pictures", *words], check=False).returncode


def _chosen(seed: int | None) -> int:
    return secrets.randbelow(1 << 32) if seed is None else seed


def _folder() -> Path:
    return Path(mkdtemp(prefix="tierserve-hostile-"))


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{line:<78}", err=True, nl=False)


if __name__ == "__main__":
    main(prog_name="python -m tests.hostile")
