"""What the commands of operators share: the options that say which server is asked, and what ends such a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from server.commands import STATE, fail, fail_of

if TYPE_CHECKING:
    from tierserve.operators import Operator

Command = TypeVar("Command", bound=Callable[..., None])
Asking = TypeVar("Asking", bound="Operator")


def server_options(command: Command) -> Command:
    """Add the options that say which server is asked: ``state``, ``url`` and ``admin_token_file``."""
    for option in (
        click.option("--admin-token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
        click.option("--url", help="URL of the server's internal port. [default: that of STATE]"),
        click.option(
            "--state",
            type=click.Path(file_okay=False, path_type=Path),
            default=STATE,
            show_default=True,
            help="State folder of the server, where it is on this machine.",
        ),
    ):
        command = option(command)
    return command


@contextmanager
def asking(
    kind: Callable[[str, str], Asking], state: Path, url: str | None, admin_token_file: Path | None
) -> Iterator[Asking]:
    """Yield ``kind(url, token)`` of the server to ask. What goes wrong meanwhile ends the command with a sentence."""
    from server.access.operators import ADMIN_TOKEN, INTERNAL_URL, BadSecret, given_secret
    from tierserve.errors import TierserveError

    try:
        token = given_secret(admin_token_file or state / ADMIN_TOKEN)
        where = url or (state / INTERNAL_URL).read_text(encoding="ascii").strip()
    except (BadSecret, OSError, ValueError) as error:
        fail(
            f"{error}. Name the state folder of a server that runs here with --state, or elsewhere the internal port "
            "with --url and the file of the admin token with --admin-token-file"
        )
    try:
        yield kind(where, token)
    except TierserveError as error:
        fail_of(error)
    except (LookupError, TypeError, AttributeError) as error:
        fail(f"{where} did not answer as a server of this release does ({error!r})")
