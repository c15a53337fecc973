"""``python -m tests.foreign`` makes the environment; with ``--lock`` it writes the newest versions and their hashes."""

from __future__ import annotations

import subprocess
import sys

import click

from tests.cluster.shell import ClusterError
from tests.foreign.environment import INSTALL_SECONDS, LOCK, NEEDS, ensure, folder

COMPILE = (sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11")
OPTIONS = ("--generate-hashes", "--upgrade", "--no-header", "--no-annotate", "--no-emit-index-url")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--lock", is_flag=True, help="Only write requirements.lock of the newest versions.")
def main(lock: bool) -> None:
    """Make the environment of other projects' clients, outside the checkout, where it is not made yet."""
    if lock:
        subprocess.run([*COMPILE, *OPTIONS, NEEDS, "--output-file", LOCK], check=True, timeout=INSTALL_SECONDS)
        return
    try:
        ensure(lambda line: click.echo(line, err=True))
    except ClusterError as error:
        raise click.ClickException(str(error)) from None
    click.echo(folder())


if __name__ == "__main__":
    main(prog_name="python -m tests.foreign")
