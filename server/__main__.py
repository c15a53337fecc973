"""The command ``tierserve``, or ``python -m server``: it serves, checks and renders, and is a client for people."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from server import commands, key_commands, model_commands, serve_command, settings_commands
from server.redaction import redacted

OWN = frozenset({"model", "server", "tierserve"})
"""The packages of this distribution. That one of their modules is missing is a mistake in them."""


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. What it complains about may quote what was typed."""
        try:
            return self._invoke(ctx)
        except click.ClickException as error:
            vars(error)["message"] = redacted(error.message)  # its type forbids to assign it
            raise
        finally:
            _flush()

    def _invoke(self, ctx: click.Context) -> Any:
        """Run a command, which ends with a sentence where only the client is installed and it needs the server."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] in OWN:
                raise
            commands.fail(
                f"tierserve {ctx.invoked_subcommand} needs what a server needs; install it with: "
                f"pip install 'tierserve[server]' ({error})"
            )


def _flush() -> None:
    """Write what was printed. Raises ``BrokenPipeError`` if nobody reads it, as click expects."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # Python would try again at its end, and show a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        commands.fail(f"standard output cannot be written: {error.strerror}")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tierserve", message="%(package)s %(version)s")
def main() -> None:
    """Serve image classification in tiers: predictions wait in a durable queue for workers that start when needed."""


for command in (
    serve_command.serve,
    settings_commands.check,
    settings_commands.render,
    commands.classify,
    commands.tiers,
    commands.predictions,
    key_commands.keys,
    model_commands.model,
):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="tierserve")
