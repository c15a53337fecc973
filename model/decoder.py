"""Decode pictures where decoding can be stopped: in a child process, with limits on its time and its memory.

No signal interrupts a decoder in the middle of a long call into C. So only plain JPEGs, whose cost is known before,
are decoded in the worker itself; it would take them longer to travel. All other pictures go to the child, one at a
time. The child starts with the first of them. If a picture takes too long, or crashes the child, only that picture
fails, and the next one gets a new child.

The child is ``python -m model.decoder``. Its standard input is a socket. A request is two big-endian uint64 (the size
of the picture and the memory that the child may have, in bytes) and the picture. A reply is a byte that is 1 for
success, a big-endian uint64 with the number of bytes that follow, and the pixels, or JSON with ``code`` and
``detail``.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.description import preprocessing_of
from model.formats import format_of
from model.geometry import most_scaled
from model.images import ImageError, Preprocessing, decodes_whole, fitted, load, normalise
from model.structure import PLAIN_PIXELS, PLAIN_WHOLE_PIXELS, is_plain

START_SECONDS, LAST_SECONDS = 60.0, 5.0
# By whether the picture is decoded as a whole: what a pixel of WEBP takes, the most of all formats.
BYTES_PER_PIXEL = {False: 16, True: 20}
# These decoders do not tell a lack of memory from damage, so what a pixel may need is compared before they begin.
SILENT_NEEDS = {
    False: {"WebP": 16, "AVIF": 16, "TIFF": 10, "JPEG": 8},
    True: {"WebP": 16, "AVIF": 20, "TIFF": 14, "JPEG": 12},
}
SPARE_BYTES = 64 * 2**20  # what a decoder may take beside the pixels
MARGIN_BYTES = 8 * 2**20  # of the container's limit, for what the kernel counts beside the pages of processes
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of versions 2 and 1

_PR_SET_PDEATHSIG = 1


class DecodingStopped(Exception):
    """Another thread called ``interrupt``."""


class DecoderUnavailable(Exception):
    """The child process does not start."""


class Decoder:
    """Decodes pictures for one model, each within ``seconds``. Only ``interrupt`` may be called from another thread.

    The thread that decodes must not end before ``close``: the kernel would end the child with it. The memory that the
    container has left is divided among ``beside`` decoders.
    """

    def __init__(self, how: Preprocessing, max_pixels: int, seconds: float, beside: int = 1) -> None:
        self._how, self._max_pixels, self._seconds, self._beside = how, max_pixels, seconds, beside
        self._plain_pixels = PLAIN_WHOLE_PIXELS if decodes_whole(how) else PLAIN_PIXELS
        self._lock = threading.Lock()
        self._interrupted = False
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def load(self, data: bytes) -> NDArray[np.float32]:
        """Return what ``model.images.load`` returns.

        Raises ``ImageError`` also with the code ``image_too_slow``, when the picture takes longer than ``seconds``;
        ``DecodingStopped``; and ``DecoderUnavailable``.
        """
        return self.load_here(data) if self.is_plain(data) else self.load_apart(data)

    def is_plain(self, data: bytes) -> bool:
        """Tell whether this process may decode a picture itself. Any thread may ask."""
        return is_plain(data, self._plain_pixels)

    def load_here(self, data: bytes) -> NDArray[np.float32]:
        """As ``load``, of a picture that is plain. Any number of threads may do so at once."""
        if self._interrupted:
            raise DecodingStopped
        return load(data, self._how, self._max_pixels)

    def load_apart(self, data: bytes) -> NDArray[np.float32]:
        """As ``load``, in the child."""
        if self._interrupted:
            raise DecodingStopped
        done, body = self._ask(data)
        if not done:
            raise ImageError(**json.loads(body))
        return normalise(np.frombuffer(body, np.uint8), self._how)

    def interrupt(self) -> None:
        """Make the ``load`` that runs in the child, and every later one, raise ``DecodingStopped``."""
        with self._lock:
            self._interrupted = True
            if self._child is not None:
                self._child.kill()

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._end()

    def _ask(self, data: bytes) -> tuple[bool, bytearray]:
        connection = self._ready()
        end = time.monotonic() + self._seconds
        try:
            connection.settimeout(self._seconds)
            connection.sendall(struct.pack(">QQ", len(data), self._memory(len(data))))
            connection.sendall(data)
            done, size = struct.unpack(">?Q", _receive(connection, 9, end))
            return done, _receive(connection, size, end)
        except TimeoutError:
            self._end()
            detail = f"Decoding took longer than {self._seconds:g} s, so it was stopped."
            raise ImageError("image_too_slow", detail) from None
        except OSError:  # the child has ended, or is about to
            status = self._end(LAST_SECONDS)
        if self._interrupted:
            raise DecodingStopped
        if status == -signal.SIGKILL:  # the kernel's, when memory runs out: nobody else kills the child
            raise ImageError("image_too_large", "The picture needs more memory than there is.")
        raise ImageError("image_broken", f"The picture's data is damaged: its decoder ended with status {status}.")

    def _ready(self) -> socket.socket:
        """Return the connection to a child that is ready for a picture; start one if there is none."""
        if self._child is not None and self._child.poll() is not None:
            self._end()
        if self._socket is not None:
            return self._socket
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            if self._interrupted:
                ours.close()
                raise DecodingStopped
            # The token of the worker is none of the child's business.
            environment = {name: value for name, value in os.environ.items() if not name.startswith("TIERSERVE_TOKEN")}
            self._child = subprocess.Popen(
                self._command(), stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=environment
            )
            self._socket = ours
        try:
            ours.settimeout(START_SECONDS)
            _receive(ours, 1, time.monotonic() + START_SECONDS)
        except OSError as error:
            status = self._end(LAST_SECONDS)
            if self._interrupted:
                raise DecodingStopped from None
            raise DecoderUnavailable(f"the decoder does not start, status {status}: {error}") from error
        return ours

    def _command(self) -> Sequence[str]:
        return [
            sys.executable,
            "-m",
            "model.decoder",
            str(os.getpid()),
            str(self._max_pixels),
            json.dumps(self._how.fields()),
        ]

    def _memory(self, size: int) -> int:
        """Return how many bytes the child may have: what the largest picture needs, or what the container has left."""
        most = largest_need(self._how, self._max_pixels) + 3 * size
        left = memory_left()
        return most if left is None else max(0, min(most, left // self._beside))

    def _end(self, patience: float = 0.0) -> int | None:
        """Return the status with which the child ends within ``patience`` seconds; otherwise kill it, return None."""
        with self._lock:
            child, connection = self._child, self._socket
            self._child = self._socket = None
        assert child is not None and connection is not None
        connection.close()
        try:
            return child.wait(patience)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return None


def largest_need(how: Preprocessing, max_pixels: int) -> int:
    """Return how many bytes a child may need for a picture of ``max_pixels``, beside the picture's own."""
    whole = decodes_whole(how)
    need = (BYTES_PER_PIXEL[whole] + _laid_bytes(how)) * max_pixels + SPARE_BYTES
    return need + 8 * most_scaled(how) if whole else need  # scaled across, and then down, at 4 bytes a pixel


def _laid_bytes(how: Preprocessing) -> int:
    """Return how many bytes a pixel takes more while transparent pixels are laid on a background."""
    return 0 if how.background is None else 9


def memory_left() -> int | None:
    """Return how many bytes the container's limit leaves beside what this process has; None without a limit."""
    for file in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # no such file, or "max"
            return int(Path(file).read_text()) - _status_bytes("RssAnon") - MARGIN_BYTES
    return None


def _receive(connection: socket.socket, size: int, end: float | None = None) -> bytearray:
    """Receive ``size`` bytes. Raises ``TimeoutError`` at the time ``end``, another ``OSError`` at the stream's end."""
    buffer = bytearray(size)
    view, got = memoryview(buffer), 0
    while got < size:
        if end is not None:
            connection.settimeout(max(end - time.monotonic(), 0.001))
        count = connection.recv_into(view[got:])
        if not count:
            raise ConnectionResetError("the other side has ended")
        got += count
    return buffer


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main(parent: int, max_pixels: int, how: Preprocessing) -> None:
    """Decode pictures that arrive at standard input until the other side ends; ``parent`` is its process id."""
    for number in (signal.SIGTERM, signal.SIGINT):  # sent to the whole group: the worker says when this process ends
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # libtiff writes about damage to the standard error, which is the worker's log. What Python says still goes there.
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    used, resident = _status_bytes("VmData"), _status_bytes("RssAnon")
    silent = {name: need + _laid_bytes(how) for name, need in SILENT_NEEDS[decodes_whole(how)].items()}
    with socket.socket(fileno=0) as connection, suppress(ConnectionResetError):
        connection.sendall(b"\0")
        while True:
            size, memory = struct.unpack(">QQ", _receive(connection, 16))
            room = max(memory - resident, 4 * size)  # to receive the picture takes so much
            resource.setrlimit(resource.RLIMIT_DATA, (used + room, resource.RLIM_INFINITY))
            data = bytes(_receive(connection, size))
            need = silent.get(format_of(data) or "", 1)
            most = min(max_pixels, (room - 3 * size) // need)
            done, body = _decode(data, how, most)
            connection.sendall(struct.pack(">?Q", done, len(body)) + body)


def _decode(data: bytes, how: Preprocessing, max_pixels: int) -> tuple[bool, bytes]:
    try:
        return True, fitted(data, how, max_pixels).tobytes()
    except ImageError as error:
        return False, json.dumps({"code": error.code, "detail": error.detail}).encode()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), preprocessing_of(json.loads(sys.argv[3])))
