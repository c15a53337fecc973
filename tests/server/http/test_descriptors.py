"""Open files: how many there may be, what is left for each port, and what happens when there are none."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack

import psutil
import pytest

from server.http.descriptors import MOST_FILES
from server.http.listener import REST_SECONDS
from tests.running import ROOT
from tests.server.http import raw
from tests.server.http.http_site import ANSWER_SECONDS

LIMITED = """
import resource
from server.http.descriptors import raise_limit, shares
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
raise_limit()
found = shares()
print(*resource.getrlimit(resource.RLIMIT_NOFILE), found.public, found.streams, found.internal)
"""
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("soft", "hard", "then", "public", "streams", "internal"),
    [
        (256, 256, 256, 80, 80, 32),
        (256, 1024, 1024, 320, 320, 128),
        (1024, 8192, 8192, 3328, 3840, 512),
        (4096, 10000, MOST_FILES, 3328, 5120, 512),
    ],
)
def test_the_limit_is_raised_and_shared(
    soft: int, hard: int, then: int, public: int, streams: int, internal: int
) -> None:
    code = LIMITED.format(soft=soft, hard=hard)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [int(word) for word in done.stdout.split()] == [then, hard, public, streams, internal]


def test_without_a_file_to_open_accepting_rests_and_goes_on_afterwards() -> None:
    with ExitStack() as held:
        process = held.enter_context(
            psutil.Popen(
                [sys.executable, "-m", "tests.server.http.exhausted"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        port = int(process.stdout.readline())
        waiting = held.enter_context(raw.connect(port))
        waiting.sendall(GET)
        waiting.settimeout(1.0)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            waiting.recv(1)
        process.stdin.write("go\n")
        process.stdin.flush()
        tries, seconds = int(process.stdout.readline()), time.monotonic() - began
        assert 2 <= tries <= 2 + seconds / REST_SECONDS
        waiting.settimeout(ANSWER_SECONDS)
        assert raw.rest(waiting).endswith(b"hello")
        assert raw.send(port, GET).endswith(b"hello")
        process.stdin.write("end\n")
        process.stdin.close()
        assert process.wait(ANSWER_SECONDS) == 0
        (line,) = [line for line in process.stderr if "could not be accepted" in line]
        assert line.endswith("1 times a connection could not be accepted, last because of: Too many open files\n")
