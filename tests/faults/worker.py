"""The real worker, except that a picture may bear a mark that kills it, or holds it up, when it is decoded."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any
from unittest import mock

from model import images
from model.__main__ import main
from tests.faults.pictures import POISON, SLOW

SLOW_SECONDS = 0.4


def load(data: bytes, *how: Any) -> Any:
    """As the worker's own, unless marked."""
    if data.endswith(POISON):
        os.kill(os.getpid(), signal.SIGKILL)
    if data.endswith(SLOW):
        time.sleep(SLOW_SECONDS)
    return images.load(data, *how)


if __name__ == "__main__":
    with mock.patch("model.worker.load", load):
        sys.exit(main())
