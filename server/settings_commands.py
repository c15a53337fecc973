"""The commands ``tierserve check`` and ``tierserve render``, which judge settings without a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from server.commands import fail
from server.shipped import DEFAULT_VALUES

if TYPE_CHECKING:
    from server.settings.blueprints import Blueprints, InForce

values_option = click.option(
    "--values",
    "files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"A values file to merge into {DEFAULT_VALUES.name}, as helm does.",
)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set one value, as in helm; can be repeated."
)


def _judged(files: Path | None, overrides: tuple[str, ...]) -> InForce:
    from server.settings import apart
    from server.settings.sources import ConfigError, Files

    try:
        return apart.judge(Files(files or DEFAULT_VALUES, overrides).read())
    except ConfigError as error:
        fail(str(error))


@click.command()
@values_option
@set_option
def check(files: Path | None, overrides: tuple[str, ...]) -> None:
    """Check values and templates; print file, line, JSON pointer and rule of each mistake."""
    judged = _judged(files, overrides)
    if broken := judged.blueprints.broken:
        fail("\n".join(str(finding) for findings in broken.values() for finding in findings))
    click.echo(f"values, schemas and the templates of {len(judged.settings.tiers)} tiers are right")


@click.command()
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
