"""The Debian packages that the cluster and other tests need, and how to install them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.cluster.shell import ClusterError, search_path

INSTALL_SECONDS = 900
CNI_DIRECTORIES = [Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni")]
COMMANDS = {  # by Debian package, a command that it contains
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "nftables": "nft",
    "conntrack": "conntrack",
    "iproute2": "ip",
    "openssl": "openssl",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
}
POSTGRESQL = "postgresql"
PROGRAMS = {"strace": "strace", "chromium": "chromium", "default-jre-headless": "java"}  # other packages, as above
POSTGRESQL_PROGRAMS = Path("/usr/lib/postgresql")
POSTGRESQL_SETTINGS = Path("/etc/postgresql-common/createcluster.conf")


def missing() -> list[str]:
    """The Debian packages that a cluster needs and that are not installed."""
    absent = [package for package, command in COMMANDS.items() if shutil.which(command, path=search_path()) is None]
    if cni_directory() is None:
        absent.append("containernetworking-plugins")
    if static_busybox() is None:
        absent.append("busybox-static")
    return absent


def missing_elsewhere() -> list[str]:
    """The Debian packages that other tests need and that are not installed."""
    there = shutil.which("initdb") or any(POSTGRESQL_PROGRAMS.glob("*/bin/initdb"))
    return ([] if there else [POSTGRESQL]) + [name for name, program in PROGRAMS.items() if not shutil.which(program)]


def install(packages: list[str]) -> None:
    """Install Debian packages. PostgreSQL's package makes no database. Raises ``ClusterError`` if it cannot be done."""
    if shutil.which("apt-get") is None:
        raise ClusterError(f"no apt-get here: install these with your system's own tool: {' '.join(packages)}")
    if os.geteuid() != 0:
        raise ClusterError(f"root is needed: sudo apt-get install {' '.join(packages)}")
    if POSTGRESQL in packages and not POSTGRESQL_SETTINGS.exists():
        POSTGRESQL_SETTINGS.parent.mkdir(exist_ok=True)
        POSTGRESQL_SETTINGS.write_text("create_main_cluster = false\n")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *packages]):
        try:
            subprocess.run(["apt-get", *words], check=True, timeout=INSTALL_SECONDS, env=env)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise ClusterError(f"{error}: its output is above") from None


def cni_directory() -> Path | None:
    """The directory of the containers' network plugins."""
    return next((path for path in CNI_DIRECTORIES if (path / "bridge").exists()), None)


def static_busybox() -> Path | None:
    """A busybox that needs no libraries, so that it can be an image by itself."""
    found = shutil.which("busybox", path=search_path())
    if found is None:
        return None
    with Path(found).open("rb") as file:
        head = file.read(4096)  # the program headers; a program that is not static names its loader there
    return None if b"/ld-" in head else Path(found)
