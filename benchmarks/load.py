"""A closed loop of HTTP clients, as light as Python allows: it shares the processors with what it measures."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import median, quantiles


@dataclass(slots=True)
class Outcome:
    """What the clients saw within the ``seconds``: answers by status, and the seconds that each 2xx took."""

    seconds: float
    statuses: Counter[int] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    told_when: int = 0

    @property
    def rate(self) -> float:
        """Answers with 2xx a second."""
        return len(self.took) / self.seconds

    @property
    def p50(self) -> float:
        """Median seconds of a 2xx."""
        return median(self.took)

    @property
    def p99(self) -> float:
        """99th percentile of the seconds of a 2xx."""
        return quantiles(self.took, n=100)[98]


def run(port: int, path: str, body: bytes, clients: int, seconds: float, headers: str = "") -> Outcome:
    """So many clients POST the body again and again; one that is refused with Retry-After comes back after that."""
    return asyncio.run(_run(port, path, body, clients, seconds, headers))


async def _run(port: int, path: str, body: bytes, clients: int, seconds: float, headers: str) -> Outcome:
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body
    outcome = Outcome(seconds)
    end = time.perf_counter() + seconds
    await asyncio.gather(*(_client(port, request, end, outcome) for _ in range(clients)))
    return outcome


async def _client(port: int, request: bytes, end: float, outcome: Outcome) -> None:
    streams = None
    while (now := time.perf_counter()) < end:
        streams = streams or await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        reader, writer = streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(lines["Content-Length"]))
        status, then = int(head[9:12]), time.perf_counter()
        if then < end or not outcome.took:
            outcome.statuses[status] += 1
            if status < 300:
                outcome.took.append(then - now)
        if lines.get("Connection") == "close":
            writer.close()
            streams = None
        if "Retry-After" in lines and status >= 400:
            outcome.told_when += 1
            await asyncio.sleep(min(float(lines["Retry-After"]), end - then))
    if streams:
        streams[1].close()
