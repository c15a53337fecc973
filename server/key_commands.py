"""The commands ``tierserve keys``: with them operators make, list, rotate and revoke keys."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from server.commands import Decimal, Number, fail, json_option
from server.operator_options import asking, server_options

if TYPE_CHECKING:
    from tierserve.keys import Keys

END = "When it ends: 90d, 12h or 2030-01-31T00:00:00Z."


@contextmanager
def _asking(state: Path, url: str | None, admin_token_file: Path | None) -> Iterator[Keys]:
    from tierserve.keys import Keys

    with asking(Keys, state, url, admin_token_file) as keys:
        yield keys


def _checked(key_id: str) -> str:
    from server.access.keys import ID, KEY  # here, as in all commands: to import the server takes long

    if key := KEY.fullmatch(key_id):
        # Other users can read the arguments of a command.
        fail(f"that is a whole key, and counts as leaked now. Revoke it: tierserve keys revoke {key[1]}")
    if not ID.fullmatch(key_id):
        fail("an id has 12 characters, and is the second part of a key: tsk_ID_SECRET. See tierserve keys list")
    return key_id


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke the keys that open tiers to callers."""


@keys.command()
@click.option("--owner", required=True, help="Whose key it is; several keys may have one owner.")
@click.option("--tier", "tiers", multiple=True, required=True, help="A tier that it opens; can be repeated.")
@click.option("--expires", help=f"{END} [default: never]")
@click.option("--per-second", "perSecond", type=Decimal(), help="Requests a second, instead of the tiers' limit.")
@click.option("--burst", "burst", type=Number(), help="Requests at once, instead of the tiers' limit.")
@click.option("--per-day", "perDay", type=Number(), help="Pictures a day, instead of the tiers' limit.")
@click.option("--queued", "queued", type=Number(), help="Predictions that wait, instead of the tiers' limit.")
@click.option("--bytes-queued", "bytesQueued", type=Number(), help="Bytes of pictures that wait, likewise.")
@click.option("--weight", type=Decimal(), help="The owner's share of a tier, beside the 1 of others.")
@click.option(
    "--pepper-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Ask no server: print the key, and a record for a file of hashed keys, made with this pepper.",
)
@json_option
@server_options
def create(
    owner: str,
    tiers: tuple[str, ...],
    expires: str | None,
    weight: float | None,
    pepper_file: Path | None,
    as_json: bool,
    state: Path,
    url: str | None,
    admin_token_file: Path | None,
    **limits: float | None,
) -> None:
    """Make a key, and print it. It is shown only now."""
    from tierserve.keys import show_new

    terms: dict[str, Any] = {"owner": owner, "tiers": list(tiers)}
    terms |= {name: value for name, value in (("expires", expires), ("weight", weight)) if value is not None}
    if given := {name: limit for name, limit in limits.items() if limit is not None}:
        terms["limits"] = given
    if pepper_file is not None:
        if url is not None or admin_token_file is not None:
            fail("--pepper-file makes a key without a server: leave out --url and --admin-token-file")
        return _print_record(pepper_file, terms, as_json)
    with _asking(state, url, admin_token_file) as operator:
        show_new(operator.create(terms), as_json)
    return None


def _print_record(pepper_file: Path, terms: Mapping[str, Any], as_json: bool) -> None:
    """Print a key, and its record as an item of a YAML list."""
    from server.access.keyring import wrong_records
    from server.access.keys import Pepper, Terms, limits_of, make, moment, record
    from server.access.operators import BadSecret, given_secret

    try:
        pepper, now = Pepper(given_secret(pepper_file)), time.time()
        end = moment(terms["expires"], now) if "expires" in terms else None
    except (BadSecret, ValueError) as error:
        fail(str(error))
    plain = Terms(terms["owner"], terms["tiers"], end, limits_of(terms.get("limits", {})), terms.get("weight", 1.0))
    text, key = make(pepper, plain, now)
    kept = record(key)
    if wrong := wrong_records([kept]):
        fail(wrong)
    if as_json:
        click.echo(json.dumps({"key": text, "record": kept}, indent=2))
        return
    click.echo(text)
    click.echo("The key is shown only now. Add this to the list `keys` of a file of hashed keys:", err=True)
    click.echo(f"- {json.dumps(kept)}")


@keys.command("list")
@json_option
@server_options
def list_keys(as_json: bool, state: Path, url: str | None, admin_token_file: Path | None) -> None:
    """Print all keys, also those that ended within the last 90 days."""
    from tierserve.keys import show_keys

    with _asking(state, url, admin_token_file) as operator:
        show_keys(operator.keys(), as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@json_option
@server_options
def show(key_id: str, as_json: bool, state: Path, url: str | None, admin_token_file: Path | None) -> None:
    """Print what is known of the key ID."""
    from tierserve.keys import show_keys

    named = _checked(key_id)
    with _asking(state, url, admin_token_file) as operator:
        show_keys([operator.key(named)], as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("--expires", help=f"{END} [default: it lives as long as the old key was to live]")
@click.option(
    "--grace", default="24h", show_default=True, help="How long the old key is still accepted: 0s, 30m, 24h or 7d."
)
@json_option
@server_options
def rotate(
    key_id: str,
    expires: str | None,
    grace: str,
    as_json: bool,
    state: Path,
    url: str | None,
    admin_token_file: Path | None,
) -> None:
    """Make a key on the terms of the key ID, which then ends, and print the new one."""
    from server.access.keys import seconds
    from tierserve.keys import show_new

    try:
        terms: dict[str, Any] = {"grace": seconds(grace)}
    except ValueError as error:
        fail(f"--grace: {error}")
    if expires is not None:
        terms["expires"] = expires
    named = _checked(key_id)
    with _asking(state, url, admin_token_file) as operator:
        show_new(operator.rotate(named, terms), as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@json_option
@server_options
def revoke(key_id: str, as_json: bool, state: Path, url: str | None, admin_token_file: Path | None) -> None:
    """Have every server refuse the key ID from now on."""
    from tierserve.keys import show_revoked

    named = _checked(key_id)
    with _asking(state, url, admin_token_file) as operator:
        show_revoked(operator.revoke(named), as_json)
