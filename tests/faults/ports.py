"""Ports for servers that stop and come back."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST, USUAL = 15000, 32768  # outgoing connections usually have ports from USUAL on


def lasting_port() -> int:
    """A free port outside the range of outgoing connections, so that none takes it while its server is away."""
    highest = int(RANGE.read_text().split()[0]) if RANGE.exists() else USUAL
    while True:
        port = random.randrange(LOWEST, max(highest, LOWEST + 1000))
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
