"""An S3 server in this process. It keeps objects in memory and logs to a file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moto.server import ThreadedMotoServer

_LOGGER = logging.getLogger("werkzeug")


@contextmanager
def s3(address: str, log: Path) -> Iterator[tuple[str, int]]:
    """Run the server while the block lasts; yields its host and port."""
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
