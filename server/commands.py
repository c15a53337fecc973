"""The commands of ``tierserve`` that ask a server, for people."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from tierserve.files import Found
    from tierserve.target import Target

STATE = Path(".tierserve")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
url_option = click.option(
    "--url",
    envvar="TIERSERVE_URL",
    show_envvar=True,
    default="http://127.0.0.1:8080",
    show_default=True,
    help="URL of the server.",
)
key_option = click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the key to send. [default: the key in the environment's TIERSERVE_KEY, if there is one]",
)


INTERRUPTED = 130  # the exit status of what Ctrl-C or SIGTERM has ended


class _Plain(click.ParamType[Any]):
    """A number in plain digits: Python would take ``1_0``, ``nan`` and the digits of other scripts, too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Ends the command if it is none."""
        if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", value):
            self.fail(f"{value!r} is no number, such as 10.", param, ctx)
        return super().convert(value, param, ctx)


class Number(_Plain, click.IntRange):
    """A whole number."""


class Decimal(_Plain, click.FloatRange):
    """A number that may have a fraction."""


def interrupt(*_: object) -> None:
    """Take SIGTERM for SIGINT, of which asyncio has a handler that ends its tasks in good order."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # a shell that does not wait for the command has SIGINT ignored
        raise KeyboardInterrupt
    handler(signal.SIGINT, None)


def fail(sentence: str) -> NoReturn:
    """End the command with this sentence."""
    raise click.ClickException(sentence)


def fail_of(error: Exception) -> NoReturn:
    """End the command with what an error says, which may quote what others wrote."""
    from tierserve.shown import visible

    fail(visible(str(error), sys.stderr))


@contextmanager
def _asking(url: str, key_file: Path | None) -> Iterator[Target]:
    """The server to ask, with the key. What goes wrong meanwhile ends the command with a sentence."""
    from tierserve.errors import TierserveError
    from tierserve.target import Target

    try:
        yield Target(url, _key(key_file))
    except TierserveError as error:
        fail_of(error)
    except (LookupError, TypeError, AttributeError) as error:
        fail(f"{url} did not answer as a server of this release does ({error!r})")


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
@click.argument("files", nargs=-1)
@click.option("--files-from", metavar="FILE", help="Also take the files that FILE names, or standard input (-).")
@click.option("--tier", default="free", show_default=True)
@click.option("--top-k", type=Number(1, 100), default=3, show_default=True, help="Labels per picture.")
@click.option("--at-once", type=Number(1, 64), default=8, show_default=True, help="Most requests at the same time.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the labels into this file, .csv or .jsonl, as they come, and print none. What it had is overwritten.",
)
@json_option
@url_option
@key_option
def classify(
    files: tuple[str, ...],
    files_from: str | None,
    tier: str,
    top_k: int,
    at_once: int,
    output: Path | None,
    as_json: bool,
    url: str,
    key_file: Path | None,
) -> None:
    """Classify the pictures FILES and print their labels.

    A folder stands for the pictures in it and below it, and - for a picture on standard input. Until all are
    classified a terminal shows where each picture stands: its place in the queue and why it waits, or its label.

    The exit status is 0 if all were classified, 1 if one could not be or if the server could not be asked, 2 for an
    option that is wrong, and 130 after Ctrl-C or SIGTERM, which print what was done before.
    """
    from tierserve import classifying

    if not (files or files_from):
        raise click.UsageError("Missing argument 'FILES...': name pictures, folders of pictures, or - for a picture.")
    if output and as_json:
        raise click.UsageError("--output says by its ending how labels are written: leave out --json.")
    with _asking(url, key_file) as target:
        found = _found(files, files_from)
        before = signal.signal(signal.SIGTERM, interrupt)
        try:
            failed = classifying.classify(target, found, tier, top_k, at_once, as_json=as_json, output=output)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        finally:
            signal.signal(signal.SIGTERM, before)
        sys.exit(1 if failed else 0)


def _found(files: Sequence[str], files_from: str | None) -> Found:
    """The pictures that a command was given. Raises ``BadPicture``; ends the command if there are none."""
    from tierserve.files import STANDARD_INPUT, found, listed

    if files_from == STANDARD_INPUT in files:
        raise click.UsageError("Standard input (-) is a picture or a list of files, and not both.")
    pictures = found([*files, *(listed(files_from) if files_from else ())])
    if not pictures.pictures:
        fail(f"there are no pictures: {pictures.remark or 'all folders are empty'}")
    return pictures


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
@click.option("--limit", type=Number(1, 10_000), default=20, show_default=True, help="Most predictions.")
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
