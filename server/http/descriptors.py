"""How many files this process may have open, and how many of them may be connections of each port."""

from __future__ import annotations

import resource
from dataclasses import dataclass

RESERVE, INTERNAL = 512, 512
LINGERING = 128  # of each port, in the reserve
# More of them would need more memory than the chart gives the server: each may hold a head of 16 KiB.
PUBLIC = 3328
STREAMS = 5120
MOST_FILES = RESERVE + INTERNAL + PUBLIC + STREAMS


@dataclass(frozen=True, slots=True)
class Shares:
    """The most connections that each port may have at once, and the most event streams, which come on top.

    At each port so many connections may be ``lingering`` beside the others.
    """

    public: int
    streams: int
    internal: int
    lingering: int


def raise_limit() -> None:
    """Let this process open as many files as it is allowed to, but not more than ``MOST_FILES``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if resource.RLIM_INFINITY != soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def shares() -> Shares:
    """The ports' shares of the files that this process may have open now.

    A reserve is left for the database, the pictures, the workers, the calls to the cluster and what lingers.
    """
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    files = MOST_FILES if soft == resource.RLIM_INFINITY else min(soft, MOST_FILES)
    internal = min(INTERNAL, files // 8)
    clients = files - internal - min(RESERVE, files // 4)
    public = min(PUBLIC, clients - clients // 2)
    return Shares(public=public, streams=clients - public, internal=internal, lingering=min(LINGERING, files // 64))
