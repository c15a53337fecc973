"""The real worker, except that a marked picture kills it or delays it when it decodes the picture."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any
from unittest import mock

from model import images
from model.__main__ import main
from tests.faults.pictures import MARK, POISON, SLOW, SLOWER

SECONDS = {SLOW: 0.4, SLOWER: 1.5}


def load(data: bytes, *how: Any) -> Any:
    """The worker's own ``load``, which marked pictures kill or delay."""
    if data.endswith(POISON):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(SECONDS.get(data[-MARK:], 0.0))
    return images.load(data, *how)


if __name__ == "__main__":
    with mock.patch("model.decoder.load", load):
        sys.exit(main())
