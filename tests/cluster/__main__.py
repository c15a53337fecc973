"""``python -m tests.cluster``: up, down, status, binaries, packages."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from pathlib import Path

import click

from tests.cluster import binaries, cluster, images, packages
from tests.cluster.claims import claims
from tests.cluster.shell import PROXIES, ClusterError, interrupt

folder_option = click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=cluster.FOLDER,
    help="Where its data and logs are. [default: .tierserve/cluster]",
)

REPOSITORIES = [f"--set {target}.image.repository={images.repository(target)}" for target in images.DEFAULT]
INSTALL = f"""helm install tierserve chart --namespace tierserve --create-namespace \\
  {" ".join(REPOSITORIES)}"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A real two-node Kubernetes on this machine, for tests."""


@main.command()
@folder_option
@click.option("--cpus", default=cluster.CPUS, show_default=True, help="What each node has to give.")
@click.option(
    "--node-monitor-grace-period",
    "grace",
    default=cluster.GRACE_SECONDS,
    show_default=True,
    help="Seconds after which a silent node is not ready.",
)
@click.option(
    "--models",
    type=click.Path(file_okay=False, path_type=Path),
    help="Put the project's images there, built with these models, and print how to install the chart.",
)
def up(folder: Path, cpus: int, grace: int, models: Path | None) -> None:
    """Start the cluster, and print the shell lines by which kubectl finds it."""
    began = time.monotonic()
    known = cluster.attach(folder)
    archives = []
    if models:
        cluster.check(folder)
        binaries.ensure(say=_say)
        archives = [images.build(target, models, say=_say) for target in images.DEFAULT]
    found = known or cluster.up(folder, cpus=cpus, grace_seconds=grace, say=_say)
    for archive in archives:
        found.load_image(archive, _say)
    _say("it is up already" if known else f"ready in {time.monotonic() - began:.1f} s")
    click.echo(f"export KUBECONFIG={shlex.quote(str(found.kubeconfig))}")
    if PROXIES & {name.lower() for name in os.environ}:
        click.echo("export NO_PROXY=$NO_PROXY,172.30.0.0/16")
    click.echo(f"export PATH={shlex.quote(str(found.binaries))}:$PATH  # kubectl {binaries.KUBERNETES_VERSION}")
    if models:
        click.echo(INSTALL)


@main.command()
@folder_option
@click.option("--all", "every", is_flag=True, help="Every cluster of this host, whatever its folder.")
def down(folder: Path, every: bool) -> None:
    """Remove the cluster without a trace. Its logs stay in its folder."""
    for path in sorted(claims().values()) if every else [folder]:
        cluster.down(path)


@main.command()
def status() -> None:
    """List the clusters of this host, with the state of their nodes."""
    cluster.require_root()
    if not claims():
        click.echo("no cluster: python -m tests.cluster up")
    for number, folder in claims().items():
        found = cluster.attach(folder)
        click.echo(f"ts{number} in {folder}: {'up' if found else 'not up, an up or down of its folder clears it'}")
        if found:
            click.echo(found.kubectl("get", "nodes", "--output=wide"))


@main.command("binaries")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="Helm and the chart's checkers too.")
def build(names: tuple[str, ...], every: bool) -> None:
    """Build the cluster's binaries, or those named, if they are missing, and print their folder."""
    click.echo(binaries.ensure(binaries.NAMES if every else names or binaries.CLUSTER, say=_say))


@main.command("packages")
@click.option("--install", is_flag=True, help="Install them with apt-get.")
def debian(install: bool) -> None:
    """List or install the Debian packages that a cluster or other tests need and that are missing."""
    absent = packages.missing() + packages.missing_elsewhere()
    if absent and install:
        packages.install(absent)
    elif absent:
        raise ClusterError(f"missing: {' '.join(absent)}; .venv/bin/python -m tests.cluster packages --install")


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)  # a shell starts what it runs in the background with SIGINT ignored
    try:
        main(prog_name="python -m tests.cluster")
    except ClusterError as error:
        _say(f"Error: {error}")
        sys.exit(1)
