"""The commands ``tierserve check`` and ``tierserve render``, which judge settings without a server."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from server.shipped import DEFAULT_VALUES, TEMPLATES

if TYPE_CHECKING:
    from server.settings.blueprints import Blueprint, InForce
    from server.settings.sources import Files

Command = Callable[..., Any]
Flags = Sequence[tuple[str, str]]

_READABLE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FLAGS = {
    "--set": "Set values: a.b=1,c[0]=x,d={y,z}. Numbers with a point, lists and mappings need --set-json.",
    "--set-string": "Set values that are text, such as 1 or true.",
    "--set-json": "Set values to JSON: a.b=0.5,c={}, or a whole mapping.",
    "--set-file": "Set values to the texts of files.",
    "--set-literal": "Set one value to a text in which no character is special.",
}


def settings_options(command: Command) -> Command:
    """Give a command the options of which ``read_from`` makes what is read, under the names ``files`` to ``flags``."""

    def collected(**given: Any) -> Any:
        named = {option: given.pop(option.removeprefix("--").replace("-", "_")) for option in _FLAGS}
        return command(**given, flags=[(option[2:], text) for option, texts in named.items() for text in texts])

    options = [
        click.option(
            "--values",
            "files",
            type=_READABLE,
            multiple=True,
            help=f"A file to merge into {DEFAULT_VALUES.name}, as helm does; can be repeated, the last one wins.",
        ),
        *(click.option(name, multiple=True, metavar="KEY=VALUE", help=text) for name, text in _FLAGS.items()),
        click.option(
            "--templates",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            default=TEMPLATES,
            help="Folder of the Job templates; those under jobTemplates in the values are added. "
            f"[default: {TEMPLATES.name}]",
        ),
    ]
    return reduce(lambda made, option: option(made), reversed(options), functools.wraps(command)(collected))


def read_from(files: Sequence[Path], flags: Flags, templates: Path, *, merged: bool = False) -> Files:
    """Return what is read. If ``merged``, the files are complete."""
    from server.settings.sources import Files

    values = tuple(files) or ((DEFAULT_VALUES,) if merged else ())
    overrides = tuple(text for option, text in flags if option == "set")
    typed = tuple(flag for flag in flags if flag[0] != "set")
    return Files(values, overrides, None if merged else DEFAULT_VALUES, templates, typed)


def _judged(files: Files, status: int = 1, only: Sequence[str] = ()) -> InForce:
    from server.settings import apart
    from server.settings.sources import ConfigError

    try:
        return apart.judge(files.read(), only)
    except ConfigError as error:
        _fail(str(error), status)


@click.command()
@settings_options
def check(files: Sequence[Path], flags: Flags, templates: Path) -> None:
    """Check values and templates; print file, line, JSON pointer and rule of each mistake.

    If nothing is wrong and the tiers have a capacity, it prints how they share it.
    """
    judged = _judged(read_from(files, flags, templates))
    if broken := judged.blueprints.broken:
        for tier in broken:
            _show_rendered(judged.blueprints.tiers[tier], around=3)
        _fail("\n".join(str(finding) for findings in broken.values() for finding in findings), 1)
    click.echo(f"values, schemas and the templates of {len(judged.settings.tiers)} tiers are right")
    from server.settings.shares import shares

    for line in shares(judged.settings):
        click.echo(line)


@click.command()
@click.argument("tier")
@settings_options
@click.option(
    "--diff",
    "others",
    type=_READABLE,
    multiple=True,
    help="Print what changes for TIER from these values to those of the other options: its values, the server's and "
    "its Job. Can be repeated, as --values. Exits with 0 if nothing changes, 1 if something does, and 2 for an error.",
)
@click.option("--validate", is_flag=True, help="Print the result of each check instead of the Job.")
def render(
    tier: str, files: Sequence[Path], flags: Flags, templates: Path, others: Sequence[Path], validate: bool
) -> None:
    """Print the manifest of TIER's Jobs; no cluster is needed."""
    status = 2 if others else 1
    judged = _judged(read_from(files, flags, templates), status, [tier])
    before = _judged(read_from(others, [], templates), status, [tier]) if others else judged
    from server.settings.render import RenderError, diff, dump  # which was imported while the settings were judged

    known = {*judged.settings.tiers, *before.settings.tiers}
    if tier not in known:
        _fail(f"there is no tier {tier}; the tiers are {', '.join(sorted(known))}", status)
    blueprint = judged.blueprints.tiers.get(tier)
    if validate and blueprint:
        _show_verdicts(blueprint)
    try:
        if others:
            names = " ".join(map(str, others)), " ".join(map(str, files)) or DEFAULT_VALUES.name
            difference = diff(_in_force(tier, before), _in_force(tier, judged), *names)
            click.echo(difference, nl=False)
            sys.exit(1 if difference else 0)
        click.echo(dump(judged.blueprints.job(tier)), nl=False)
    except RenderError as error:
        if blueprint:
            _show_rendered(blueprint)
        _fail(str(error), status)


def _in_force(tier: str, judged: InForce) -> dict[str, Any]:
    """All that is in force for ``tier``, of which there is nothing if there is no such tier."""
    if tier not in judged.settings.tiers:
        return {}
    return {**judged.values_of(tier), "Job": judged.blueprints.job(tier)}


def _show_verdicts(blueprint: Blueprint) -> NoReturn:
    verdicts = blueprint.verdicts
    for verdict in verdicts:
        click.echo(f"{'ok  ' if verdict.ok else 'FAIL'} {verdict.step}")
        for finding in verdict.findings:
            click.echo(f"     {finding}")
    _show_rendered(blueprint)
    sys.exit(0 if all(verdict.ok for verdict in verdicts) else 1)


def _show_rendered(blueprint: Blueprint, around: int | None = None) -> None:
    """Print what was rendered, if something is wrong in it: all of it, or some lines ``around`` what is wrong."""
    from server.settings.excerpts import excerpt

    if blueprint.text:
        click.echo(f"{blueprint.findings[0].file}:\n{excerpt(blueprint.text, blueprint.findings, around)}", err=True)


def _fail(sentence: str, status: int) -> NoReturn:
    click.ClickException(sentence).show()
    sys.exit(status)
