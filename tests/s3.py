"""A real S3 server that keeps objects in memory, part of this process; what it logs goes to a file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moto.server import ThreadedMotoServer

_LOGGER = logging.getLogger("werkzeug")


@contextmanager
def s3(address: str, log: Path) -> Iterator[tuple[str, int]]:
    """Where it listens, for as long as the block lasts."""
    handler = logging.FileHandler(log)
    _LOGGER.addHandler(handler)
    before, _LOGGER.propagate = _LOGGER.propagate, False
    server = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()
    finally:
        server.stop()
        _LOGGER.propagate = before
        _LOGGER.removeHandler(handler)
        handler.close()
