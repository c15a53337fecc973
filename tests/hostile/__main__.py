"""``python -m tests.hostile``: attack a server, send mutated requests, decode mutated pictures."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from tempfile import mkdtemp

import click

from tests.hostile.attacks import ATTACKS
from tests.hostile.siege import siege
from tests.hostile.verdict import broken, figures, slow
from tests.running import models_directory


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Be hostile to a server of its own, and look at what honest clients see meanwhile."""


@main.command()
@click.option("--seconds", type=float, default=5.0, show_default=True, help="How long each attack lasts.")
@click.option("--attack", "names", multiple=True, type=click.Choice(list(ATTACKS)), help="Only these; repeat it.")
@click.option("--seed", type=int, help="Repeats the choices of an earlier run. [default: a new one]")
def attack(seconds: float, names: tuple[str, ...], seed: int | None) -> None:
    """Attack a server in each way by itself, then in all ways at once, and judge what honest clients saw."""
    chosen = secrets.randbelow(1 << 32) if seed is None else seed
    folder = Path(mkdtemp(prefix="tierserve-hostile-"))
    bad = 0
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


if __name__ == "__main__":
    main(prog_name="python -m tests.hostile")
