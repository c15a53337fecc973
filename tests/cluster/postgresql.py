"""An image of PostgreSQL for tests: Debian's package on the base image of the others."""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path

from tests.cluster import base
from tests.cluster.base import CACHE
from tests.cluster.images import CERTIFICATES
from tests.cluster.shell import Say, locked, run

AUTHORITIES = f"{CERTIFICATES}/ca-certificates.crt"  # not its folder, because a package writes into it
NAME = "localhost/tierserve-postgresql:bookworm"
ACCOUNT = 10003
# Without that setting the package would make and start a database of its own. LLVM takes 150 MB, and PostgreSQL uses it
# only to compile queries.
DOCKERFILE = f"""
FROM {base.NAME}
RUN echo 'postgres:x:{ACCOUNT}:{ACCOUNT}::/tmp:/usr/sbin/nologin' >>/etc/passwd \\
    && echo 'postgres:x:{ACCOUNT}:' >>/etc/group \\
    && mkdir /etc/postgresql-common && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \\
    && apt-get update -q \\
    && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql \\
    && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ \\
    && rm -r /usr/lib/*/libLLVM* /usr/lib/*/libz3* \\
    && rm -r /usr/lib/postgresql/*/lib/bitcode /usr/lib/postgresql/*/lib/llvmjit* \\
    && rm -r /var/lib/apt/lists/* /var/cache/apt/*.bin /usr/share/doc /usr/share/locale /usr/share/man /usr/share/perl
STOPSIGNAL SIGINT
USER {ACCOUNT}:{ACCOUNT}
"""


def postgresql_image(say: Say = lambda line: None) -> Path:
    """The image as an OCI archive. The first call makes it within a minute; later ones find it in the cache."""
    base.require_tools()
    bottom = base.base_image(say)
    key = hashlib.sha256(f"{DOCKERFILE} {bottom.name}".encode()).hexdigest()[:12]
    archive = CACHE / f"postgresql-{key}.tar"
    with locked(CACHE / "postgresql.lock", say):
        if not archive.exists():
            for other in CACHE.glob(f"postgresql-{'?' * 12}.tar"):
                other.unlink()
            _make(archive, bottom, say)
    return archive


def _make(archive: Path, bottom: Path, say: Say) -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="postgresql-") as name:
        folder = Path(name)
        storage = folder / "storage"
        run(*base.buildah(storage, "pull"), "--quiet", f"oci-archive:{bottom}", timeout=300)
        (folder / "Dockerfile").write_text(DOCKERFILE)
        (folder / ".dockerignore").write_text("*")
        argv = [*base.buildah(storage, "bud"), "--isolation", "chroot", "--network", "host", "--no-hosts"]
        argv += ["--volume", f"{AUTHORITIES}:{AUTHORITIES}:ro", "--tag", NAME, "--file", str(folder / "Dockerfile")]
        base.follow([*argv, folder], CACHE / "postgresql.log", lambda line: None)
        base.export(storage, NAME, archive)
    say(f"postgresql: made in {time.monotonic() - began:.0f} s")
