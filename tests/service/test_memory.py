"""The memory of a real server: bounded while many large uploads come at once, and given back when they are gone."""

from __future__ import annotations

import base64
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from server.http.services import UPLOAD_BYTES
from tests.running import Service, service
from tests.waiting import eventually

MEGABYTE = 1024 * 1024
PICTURE = b"\xff\xd8\xff" + bytes(10 * MEGABYTE - 3)
PAUSED = ["tiers.free.quota.pods=0", "tiers.premium.quota.pods=0"]
SLACK = 40 * MEGABYTE  # what else a server may need meanwhile, far below the 1,031 MB that this once took


def memory(server: Service) -> int:
    assert server.process is not None
    return int(server.process.memory_info().rss)


def peak(server: Service) -> int:
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def upload(server: Service, address: str, tier: str, body: bytes, *, whole: bool) -> bytes:
    """Send most of a request, or all of it; returns how the answer begins, if there is one."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60, source_address=(address, 0)) as connection:
        head = f"POST /img-classification/{tier} HTTP/1.1\r\nHost: 127.0.0.1\r\nPrefer: respond-async\r\n"
        with suppress(OSError):  # refused
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
            connection.sendall(body if whole else body[: -5 * MEGABYTE])
            return connection.recv(100) if whole else b""
    return b""


def test_large_uploads_at_once_are_bounded_and_leave_nothing_behind(models: Path, tmp_path: Path) -> None:
    body = json.dumps({"inputs": [base64.b64encode(PICTURE).decode()] * 8}).encode()
    with service(models, tmp_path, PAUSED) as server:
        rest = memory(server)
        assert upload(server, "127.0.0.1", "free", body, whole=True).startswith(b"HTTP/1.1 202 ")
        assert peak(server) < rest + 8 * len(PICTURE) + SLACK, "base64 is not held"
        for whole in (False, True):
            with ThreadPoolExecutor(6) as pool:
                for number in range(6):
                    tier = ("free", "premium")[number % 2]
                    pool.submit(upload, server, f"127.0.0.{2 + number}", tier, body, whole=whole)
        eventually(lambda: memory(server), 20, "the memory is given back", lambda now: now < rest + SLACK)
        assert peak(server) < rest + UPLOAD_BYTES + SLACK < 400 * MEGABYTE
