"""The command ``tierserve``, or ``python -m server``: it serves, checks and renders, and is a client for people."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

MODULES = {
    "check": "settings_commands",
    "classify": "commands",
    "keys": "key_commands",
    "model": "model_commands",
    "predictions": "commands",
    "render": "settings_commands",
    "serve": "serve_command",
    "tiers": "commands",
}
"""Where each command is. Only that of the command that runs is imported."""
OWN = frozenset({"model", "server", "tierserve"})
"""The packages of this distribution. That one of their modules is missing is a mistake in them."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return sorted(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; for a name that there is not, all of them, among which click looks for what was meant."""
        for name in [cmd_name] if cmd_name in MODULES else MODULES:
            if name not in self.commands:
                self.add_command(getattr(import_module(f"server.{MODULES[name]}"), name))
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. What it complains about may quote what was typed."""
        try:
            return self._invoke(ctx)
        except click.ClickException as error:
            from server.redaction import redacted

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
            raise click.ClickException(
                f"tierserve {ctx.invoked_subcommand} needs what a server needs; install it with: "
                f"pip install 'tierserve[server]' ({error})"
            ) from error


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
        raise click.ClickException(f"standard output cannot be written: {error.strerror}") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tierserve", message="%(package)s %(version)s")
def main() -> None:
    """Serve image classification in tiers: predictions wait in a durable queue for workers that start when needed."""


if __name__ == "__main__":
    main(prog_name="tierserve")
